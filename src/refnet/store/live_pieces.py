"""Opens every piece that copies in a store name, with the recovery key: what a drill of a remote store does.

A run that sends compares the SHA-256 of objects and needs no recovery key. So it does not see a piece that was encrypted to
somebody else, or one whose plaintext is not what its name says: a bit that flipped before it was encrypted, or a manifest
of a thief with the signing key, and later copies would share such a piece. This sees both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, islice
from typing import Any

from refnet.catalog.artifact import Progress
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.object_names import MANIFESTS, SharedName
from refnet.catalog.remote import Copy, Piece
from refnet.catalog.store import Unlisted
from refnet.core import formatting
from refnet.core.errors import Exit
from refnet.store.age import DecryptionError, WrongKeyError
from refnet.store.copy_checks import compared
from refnet.store.cutting import Cutting
from refnet.store.known_blocks import PieceCuts
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import damaged, fetch

#: A run that was interrupted is continued within this time.
_CONTINUED = timedelta(days=7)
#: Seconds after which a run can be continued, as each record names all pieces; and faults that are named.
_AT_A_TIME, _NAMED = 30.0, 100


@dataclass(frozen=True)
class OpenedPieces:
    """What came of opening the pieces of a store."""

    store: str
    #: Those whose pieces were opened.
    copies: int
    #: Each counts once, also those that the interrupted run before this one opened.
    pieces: int
    #: Of their objects, in bytes.
    size: int
    #: What is damaged, a sentence each, at most _NAMED of them.
    faults: tuple[str, ...]
    #: How many there are.
    damaged: int
    #: What was not checked, a sentence each.
    skipped: tuple[str, ...] = ()
    #: Why not all were opened; "": they were.
    trouble: str = ""

    @property
    def exit(self) -> Exit:
        return Exit.DAMAGED if self.damaged else Exit.UNVERIFIED if self.trouble else Exit.DONE

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "copies": self.copies,
            "pieces": self.pieces,
            "size": self.size,
            "damaged": self.damaged,
            "faults": list(self.faults),
            "skipped": list(self.skipped),
            "trouble": self.trouble or None,
        }


def open_pieces(store: RemoteStore, now: Callable[[], datetime], progress: Progress) -> OpenedPieces:
    """Fetch and decrypt every piece that a copy in `store` names, unless it is known to be damaged; record the result.

    Compared are size and SHA-256 of the object, and size and keyed hash of its plaintext; the latter for pieces of this
    machine. Three pieces are in memory at a time. BucketError if the store cannot be reached: the next run continues.
    """
    begun, seen = now(), store.by_recovery_key(versions=store.manifests.versions)
    contents = seen.contents()
    sound = [one for one in contents.copies if not one.damaged]
    wanted = {piece: (copy, length) for copy in sound for piece, length in _lengths(copy)}
    earlier = store.records.opened(begun - _CONTINUED)
    left = [piece for piece in wanted if piece.name not in earlier]
    opening = _Opening(store, wanted)
    total, faults = sum(one.size for one in wanted), dict[Piece, str]()
    done = total - sum(one.size for one in left)
    passed, last, recorded = list[str](), left[-1:], time.monotonic()
    for piece, why in compared(left, opening.check):
        done += piece.size
        progress(f"open the pieces in {store.name}", done, total)
        if why:
            faults[piece] = why
        else:
            passed.append(piece.name)
        if time.monotonic() - recorded >= _AT_A_TIME or piece in last:
            store.records.add_opened(now(), passed)
            store.records.add_read_back(now(), passed, [one.name for one in faults])
            passed, recorded = [], time.monotonic()
    faults = _recorded(seen, sound, faults, now(), (now() - begun).total_seconds())
    store.records.forget_opened()
    skipped = (*_skipped(store, contents.copies, contents.unlisted), *opening.skipped())
    named = tuple(islice(faults.values(), _NAMED))
    return OpenedPieces(store.name, len(sound), len(wanted), total, named, len(faults), skipped)


def _lengths(copy: Copy) -> Iterator[tuple[Piece, int]]:
    """Yield the pieces of a copy with the size of their plaintext; 0: a list of files of format 1, whose is not recorded."""
    yield from zip(copy.document.pieces, copy.document.plain_lengths, strict=True)
    yield from ((one, 0) for one in copy.document.files)


class _Opening:
    """Opens pieces of one store."""

    def __init__(self, store: RemoteStore, wanted: dict[Piece, tuple[Copy, int]]) -> None:
        """`wanted`: each with a copy that names it, and the size of its plaintext; 0: unknown."""
        self._store, self._wanted = store, wanted
        catalog = store.trust.opener.catalog
        self._key, self._cutting = store.own_key, Cutting.of(catalog.revealed()) if catalog else None
        #: By the hash in the name of a piece: the lengths of its blocks. One that came from another store keeps its name.
        self._cuts = dict[str, Sequence[int]]()
        for path in store.home.parent.glob("[!.]*"):
            self._cuts |= PieceCuts.of(path).read()
        #: Pieces whose plaintext cannot be compared with their names.
        self._uncompared = set[Piece]()

    def check(self, piece: Piece) -> None:
        """RefnetError (DAMAGED) unless the piece is what its manifest and its name say."""
        copy, length = self._wanted[piece]
        what = f"{copy.name} in {self._store.name}"
        data = fetch(self._store.bucket, piece, what)
        try:
            plain = self._store.trust.opener.piece(data)
        except WrongKeyError:
            raise damaged(what, f"{piece.name} is encrypted to other keys than its manifest") from None
        except DecryptionError as error:
            raise damaged(what, f"{piece.name} is {error}") from None
        if length not in {0, len(plain)}:
            raise damaged(what, f"{piece.name} has {len(plain):,} bytes instead of {length:,}")
        name = SharedName.read(piece.name)
        if name and not self._is_named(name, plain, data):
            if name.key == self._key and name.hash in self._cuts:
                raise damaged(what, f"the content of {piece.name} does not match its name (keyed hash)")
            self._uncompared.add(piece)

    def _is_named(self, name: SharedName, plain: bytes, data: bytes) -> bool:
        """Whether the plaintext of a piece of this machine is what its name says: a keyed hash of the hashes of its blocks."""
        cutting, lengths = self._cutting, self._cuts.get(name.hash, ())
        if cutting is None or name.key != self._key:
            return False
        if name.hash == cutting.hash(data).hex():  # it came encrypted from a store of format 1
            return True
        if sum(lengths) != len(plain):
            return False
        ends = [*accumulate(lengths)]
        blocks = [memoryview(plain)[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        # Earlier versions sent pieces whose blocks they had hashed as a piece.
        hashes = (cutting.block_hash, cutting.hash)
        return any(name.hash == cutting.hash(b"".join(map(one, blocks))).hex() for one in hashes)

    def skipped(self) -> Iterator[str]:
        if count := len(self._uncompared):
            what = formatting.plural(count, "piece")
            yield f"the keyed hash of {what}, whose key or cuts this machine does not know"


def _skipped(store: RemoteStore, copies: tuple[Copy, ...], unlisted: tuple[Unlisted, ...]) -> Iterator[str]:
    if count := sum(one.damaged for one in copies):
        yield (
            "1 copy that is known to be damaged"
            if count == 1
            else f"{count:,} copies that are known to be damaged"
        )
    own = tuple(filter(None, (f"{store.own_key}/" if store.own_key else "", MANIFESTS)))
    closed = [one for one in unlisted if one.needs_key and (not store.own_key or one.name.startswith(own))]
    if closed:
        yield f"{formatting.plural(len(closed), 'manifest')} that this recovery key does not open, such as {closed[0].name}"


def _recorded(
    seen: RemoteStore, sound: list[Copy], faults: dict[Piece, str], at: datetime, seconds: float
) -> dict[Piece, str]:
    """Record the check of each copy that is still there; return the faults of these, as a prune may have deleted others."""
    still, ids = dict[Piece, str](), {one.id for one in sound}
    passed = Evidence(at, Level.WRITTEN, Outcome.PASSED, seconds, reasons=("every piece was opened",))
    for copy in seen.entries():
        if copy.id not in ids or copy.damaged:
            continue
        own = {piece: faults[piece] for piece in copy.document.objects if piece in faults}
        still |= own
        whys = tuple(islice(own.values(), _NAMED))
        seen.record(copy, replace(passed, outcome=Outcome.FAILED, reasons=whys) if own else passed)
    return still
