"""The blocks of the newest copy of a source: which range of which piece has a block's bytes.

In REFNET_HOME/remote/NAME/blocks, one file for each source. Without it, or if it is damaged, a copy shares only whole
pieces. It ends with a keyed hash, so places that another program wrote are refused: otherwise only who reads a copy with the
recovery key would find them. In the file `cuts` beside it are the lengths of the blocks of each piece: what its name says can be
compared with its plaintext only by them.
"""

from __future__ import annotations

import json
import os
import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from xxhash import xxh3_128_digest

from refnet.catalog.object_names import ANY_PIECE
from refnet.catalog.remote import MOST_PIECES, PIECE_BYTES, Piece
from refnet.core import checked
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.store.cutting import Cutting

#: Hash, number of the piece, start, length.
_ROW = struct.Struct("<16sIII")
#: The largest file that is read, and written, in bytes: about 2 million blocks.
_MOST_BYTES = 64 << 20
_SUM = 16
#: In `cuts`: the hash in the name of a piece, and the number of its blocks, whose lengths follow.
_PIECE = struct.Struct("<16sI")
_FORMAT = 1
_HEAD = checked.record(
    {
        "format": checked.integer(1, _FORMAT),
        "pieces": checked.each(checked.text(100, like=ANY_PIECE), MOST_PIECES),
    }
)


class Place(NamedTuple):
    """Where the bytes of a block are."""

    #: The name of the piece.
    piece: str
    #: In its plaintext, in bytes.
    start: int
    length: int


@dataclass(frozen=True)
class KnownBlocks:
    """The file of one source."""

    path: Path
    #: Seals it.
    cutting: Cutting

    def read(self, usable: Mapping[str, Piece]) -> dict[bytes, Place]:
        """By hash: the blocks in pieces that are `usable` (by name) and of which the newest copy uses half at least.

        A copy of many nights would otherwise consist of ranges of many pieces that nothing else needs.
        """
        try:
            data = self.cutting.opened(read_regular(self.path, _MOST_BYTES, owner=os.geteuid()))
            line, _, rows = data.partition(b"\n")
            names: list[str] = _HEAD(checked.document(line, _MOST_BYTES))["pieces"]
            found = {row[0]: Place(names[row[1]], row[2], row[3]) for row in _ROW.iter_unpack(rows)}
        except (OSError, ValueError, IndexError, struct.error):
            return {}
        used = Counter[str]()
        for place in found.values():
            used[place.piece] += place.length
        kept = {name for name, count in used.items() if name in usable and 2 * count >= usable[name].plain}
        return {
            hash_: place
            for hash_, place in found.items()
            if place.piece in kept and place.start + place.length <= usable[place.piece].plain <= PIECE_BYTES
        }

    def write(self, places: Mapping[bytes, Place]) -> None:
        """Replace the file; RefnetError if that fails."""
        numbers = {
            name: number for number, name in enumerate(dict.fromkeys(one.piece for one in places.values()))
        }
        rows = b"".join(
            _ROW.pack(hash_, numbers[one.piece], one.start, one.length) for hash_, one in places.items()
        )
        body = json.dumps({"format": _FORMAT, "pieces": [*numbers]}).encode() + b"\n" + rows
        if len(body) + _SUM > _MOST_BYTES:
            with suppress(FileNotFoundError):
                self.path.unlink()
            return
        make_folder(self.path.parent)
        with explained(self.path):
            replace_file(self.path, self.cutting.sealed(body))


@dataclass(frozen=True)
class PieceCuts:
    """The lengths of the blocks of the pieces that this machine sent to one store."""

    path: Path

    @classmethod
    def of(cls, home: Path) -> Self:
        """Those of the store with the folder `home`."""
        return cls(home / "cuts")

    def read(self) -> dict[str, Sequence[int]]:
        """By the hash (hex) in the name of a piece: the lengths of its blocks, in order, in bytes. Damaged: none."""
        found = dict[str, Sequence[int]]()
        with suppress(OSError, ValueError, struct.error):
            data = read_regular(self.path, _MOST_BYTES, owner=os.geteuid())
            body, at = memoryview(data)[:-_SUM], 0
            if xxh3_128_digest(body) != data[-_SUM:]:
                return {}
            while at < len(body):
                hash_, count = _PIECE.unpack_from(body, at)
                at += _PIECE.size
                if at + 4 * count > len(body):
                    return {}
                found[hash_.hex()] = body[at : at + 4 * count].cast("I")
                at += 4 * count
        return found

    def add(self, cuts: Mapping[str, Sequence[int]]) -> None:
        """Add those of pieces that are not there; RefnetError if that fails."""
        known = self.read()
        if cuts.keys() <= known.keys():
            return
        rows = list[bytes]()
        for hash_, lengths in (known | dict(cuts)).items():
            rows.append(_PIECE.pack(bytes.fromhex(hash_), len(lengths)) + array("I", lengths).tobytes())
        while sum(map(len, rows)) + _SUM > _MOST_BYTES:
            del rows[: -(-len(rows) // 4)]  # the oldest ones
        body = b"".join(rows)
        make_folder(self.path.parent)
        with explained(self.path):
            replace_file(self.path, body + xxh3_128_digest(body))
