"""The bytes of a copy: pieces, fetched and decrypted on demand.

A piece is handed out only after its size and SHA-256 are those of the signed manifest, and age has authenticated all of
it. Readers share a few decrypted pieces; one that reads on in order has the next ones fetched meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import mkstemp
from threading import Lock
from weakref import finalize

from xxhash import xxh3_128_digest

from refnet.catalog.remote import MOST_ADDED, PIECE_BYTES, Piece
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import make_folder
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure, in_background
from refnet.store.encryption import DecryptionError, WrongKeyError
from refnet.store.keys import Opener

#: Decrypted pieces that readers in several places share.
_SHARED = 2
#: Pieces that are fetched ahead of a reader that reads on in order: a server sends several faster than one.
_AHEAD = 2
#: The space of an object among those that are kept, in bytes.
_SLOT = PIECE_BYTES + MOST_ADDED
#: Versions of a piece that are tried. Its name is random, so what was sent is among the oldest.
_OLDEST = 4
#: Pieces that are read in order before the next ones are fetched ahead.
_IN_ORDER = 2


def fetch(bucket: Bucket, piece: Piece, what: str) -> bytes:
    """The stored object of `piece`; RefnetError (DAMAGED) if it is missing or not what was sent.

    A differing object is fetched once more, as it may have changed in transit. A deleted or replaced object is read from
    its older version, if the bucket keeps versions. what: artifact and store, for the message.
    """
    try:
        return _get(bucket, piece, piece.version)
    except BucketError as error:
        if error.kind not in {BucketFailure.MISSING, BucketFailure.DAMAGED}:
            raise
        with suppress(BucketError):
            return _get(bucket, piece, piece.version)
        with suppress(BucketError):
            found = [one for one in bucket.versions(piece.name) if one.id not in {"", piece.version}]
            others = [one for one in found if (one.name, one.size) == (piece.name, piece.size)]
            for one in sorted(others, key=lambda one: one.modified)[:_OLDEST]:
                with suppress(BucketError):
                    return _get(bucket, piece, one.id)
        raise _damaged(what, error.message) from error


def _get(bucket: Bucket, piece: Piece, version: str) -> bytes:
    data = bucket.get(piece.name, piece.size, version=version)
    if len(data) != piece.size or hashlib.sha256(data).hexdigest() != piece.sha256:
        raise BucketError(BucketFailure.DAMAGED, f"{piece.name} differs from what was sent (SHA-256)", "")
    return data


def decrypt(opener: Opener, data: bytes, what: str) -> bytes:
    """Decrypt a piece; RefnetError if no available recovery key fits, or it is not a piece."""
    try:
        return opener.piece(data)
    except WrongKeyError:
        raise RefnetError(
            f"{what}: the recovery key does not open it",
            "Give the key that it was encrypted to; `refnet key show` names the recipients of this machine.",
            Exit.USAGE,
        ) from None
    except DecryptionError as error:
        raise _damaged(what, f"a piece is {error}") from None


def _damaged(what: str, why: str) -> RefnetError:
    return RefnetError(
        f"{what} is damaged: {why}", "Choose another copy, or send it again: refnet copy.", Exit.DAMAGED
    )


class KeptPieces:
    """Cache of an artifact's stored pieces: each is fetched once.

    They stay encrypted in an unnamed file in `folder`, which disappears with the process. Nothing is cached if all
    pieces (`size` bytes) would take more than half of the free space.
    """

    def __init__(self, fetch: Callable[[int], bytes], folder: Path, size: int) -> None:
        """`fetch`: returns an object by the number of its piece."""
        self._fetch = fetch
        self._folder, self._size = folder, size
        #: By number: the size of what is kept, and its XXH3.
        self._there: dict[int, tuple[int, bytes]] = {}
        self._alone = Lock()
        self._busy: dict[int, Lock] = {}

    def piece(self, number: int, *, keep: bool) -> bytes:
        """The stored piece; `keep`: it may be needed again."""
        with self._busy.setdefault(number, Lock()):  # another thread may be fetching it
            return self._known(number) or self._fetched(number, keep=keep)

    def _known(self, number: int) -> bytes:
        """The cached piece, or b""."""
        with suppress(OSError):  # the disk fails: it is fetched again
            if known := self._there.get(number):
                data = os.pread(self._file, known[0], number * _SLOT)
                if xxh3_128_digest(data) == known[1]:
                    return data
        return b""

    def _fetched(self, number: int, *, keep: bool) -> bytes:
        data = self._fetch(number)
        with suppress(OSError, RefnetError), self._alone:  # the disk is full: it is not kept
            if keep and self._file >= 0 and os.pwrite(self._file, data, number * _SLOT) == len(data):
                self._there[number] = len(data), xxh3_128_digest(data)
        return data

    @cached_property
    def _file(self) -> int:
        """The file's handle; -1: nothing is kept."""
        make_folder(self._folder)
        if shutil.disk_usage(self._folder).free < 2 * self._size:
            return -1
        handle, name = mkstemp(dir=self._folder)
        finalize(self, os.close, handle)
        Path(name).unlink()
        return handle


class Pieces:
    """The pieces of one artifact, for any number of readers."""

    def __init__(self, read: Callable[[int, bool], bytes], lengths: Sequence[int]) -> None:
        """`read`: returns a piece decrypted, by its number and whether it is kept. `lengths`: of each piece, in bytes."""
        self.lengths = lengths
        #: Were opened so far. What a single one reads in order is not needed again.
        self.readers = 0
        self._read = read
        self._shared: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._alone = Lock()

    def piece(self, number: int, *, ahead: bool = False) -> bytes:
        """Return a piece; `ahead`: the next ones will be needed soon."""
        with self._alone:
            keep = self.readers > 1 or not ahead
            wanted = self._begun(number, keep=keep)
            for one in range(number + 1, min(number + 1 + _AHEAD * ahead, len(self.lengths))):
                self._begun(one, keep=keep)
            while len(self._shared) > (1 + _AHEAD if ahead else _SHARED):
                self._shared.popitem(last=False)
        return wanted.result()

    def _begun(self, number: int, *, keep: bool) -> Future[bytes]:
        there = self._shared.get(number)
        if there is None or (there.done() and there.exception()):  # one that failed is fetched again
            self._shared[number] = in_background(self._checked, number, keep)
        self._shared.move_to_end(number)
        return self._shared[number]

    def _checked(self, number: int, keep: bool) -> bytes:
        data = self._read(number, keep)
        if len(data) != self.lengths[number]:
            raise _damaged(
                "the copy", f"piece {number} has {len(data)} bytes instead of {self.lengths[number]}"
            )
        return data


class PieceReader(io.RawIOBase):
    """A seekable reader of an artifact in pieces; `in_order`: it reads all of them in order."""

    def __init__(self, pieces: Pieces, *, in_order: bool = False) -> None:
        super().__init__()
        self._pieces = pieces
        pieces.readers += 1
        self._size = sum(pieces.lengths)
        self._at = 0
        self._number, self._data = -1, b""
        self._in_order = _IN_ORDER if in_order else 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a negative position")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._at >= self._size or not view:
            return 0
        number, start = divmod(self._at, PIECE_BYTES)
        if number != self._number:
            self._in_order = self._in_order + 1 if number == self._number + 1 else 1
            self._number, self._data = -1, b""  # one piece in memory, not two
            self._data = self._pieces.piece(number, ahead=self._in_order >= _IN_ORDER)
            self._number = number
        part = memoryview(self._data)[start : start + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
