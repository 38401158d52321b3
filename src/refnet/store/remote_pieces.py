"""The bytes of a copy: pieces, fetched and decrypted on demand.

A piece is handed out only after its size and SHA-256 are those of the signed manifest, and age has authenticated all of
it. Readers share a few decrypted pieces; one that reads on in order has the next ones fetched meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, groupby, islice
from pathlib import Path
from tempfile import mkstemp
from threading import Lock
from typing import BinaryIO, cast
from weakref import finalize

from isal import igzip
from xxhash import xxh3_128_digest

from refnet.catalog.remote import MOST_ADDED, PIECE_BYTES, Copy, Piece, Range
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import make_folder
from refnet.store import list_coding
from refnet.store.age import DecryptionError, WrongKeyError
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure, in_background
from refnet.store.keys import Opener
from refnet.store.piece_cache import PieceCache

#: Decrypted pieces of the largest size that readers in several places share.
_SHARED = 2
#: Pieces that are fetched ahead of a reader that reads on in order: a server sends several faster than one.
_AHEAD = 2
#: Parts in which these are looked for.
_LOOKED_AHEAD = 64
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
        raise damaged(what, error.message) from error


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
        raise damaged(what, f"a piece is {error}") from None


def damaged(what: str, why: str) -> RefnetError:
    """The error for a damaged copy."""
    return RefnetError(
        f"{what} is damaged: {why}", "Choose another copy, or send it again: refnet copy.", Exit.DAMAGED
    )


class KeptPieces:
    """Cache of an artifact's stored pieces: each is fetched once.

    They stay encrypted in `cache`, or what that does not keep in an unnamed file in `folder`, which disappears with the
    process. Nothing is in the latter if all pieces would take more than half of the free space.
    """

    def __init__(
        self, fetch: Callable[[Piece], bytes], folder: Path, pieces: Sequence[Piece], cache: PieceCache
    ) -> None:
        """`fetch`: returns the object of a piece."""
        self._fetch, self._pieces, self._cache = fetch, pieces, cache
        self._folder, self._size = folder, sum(one.size for one in pieces)
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
        return self._cache.get(self._pieces[number])

    def _fetched(self, number: int, *, keep: bool) -> bytes:
        data = self._fetch(self._pieces[number])
        if keep and self._cache.add(self._pieces[number], data):
            return data
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
    """The decrypted pieces of one artifact, for any number of readers."""

    def __init__(
        self, read: Callable[[int, bool], bytes], lengths: Sequence[int], parts: Sequence[Range]
    ) -> None:
        """Arguments:

        read: returns a piece decrypted, by its number and whether it is kept.
        lengths: of each piece, in bytes.
        parts: the ranges that are the artifact.
        """
        self.lengths, self.parts = lengths, parts
        #: Where each part begins in the artifact, and the artifact's size.
        self.starts = [0, *accumulate(one.length for one in parts)]
        #: Were opened so far. What a single one reads in order is not needed again.
        self.readers = 0
        self._read = read
        self._shared: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._alone = Lock()

    def piece(self, at: int, *, ahead: bool = False) -> bytes:
        """Return the piece of part `at`; `ahead`: those of the next parts will be needed soon."""
        number = self.parts[at].piece
        with self._alone:
            keep = self.readers > 1 or not ahead
            wanted = self._begun(number, keep=keep or number in self._used_again)
            for one in self._next(at) if ahead else ():
                self._begun(one, keep=keep or one in self._used_again)
            most = (1 + _AHEAD if ahead else _SHARED) * PIECE_BYTES
            while len(self._shared) > 1 and sum(self.lengths[one] for one in self._shared) > most:
                self._shared.popitem(last=False)
        return wanted.result()

    @cached_property
    def _used_again(self) -> frozenset[int]:
        """Pieces with parts in several places of the artifact."""
        runs = Counter(number for number, _ in groupby(one.piece for one in self.parts))
        return frozenset(number for number, count in runs.items() if count > 1)

    def _next(self, at: int) -> list[int]:
        """The pieces that follow that of part `at`."""
        following = (one.piece for one in self.parts[at + 1 : at + 1 + _LOOKED_AHEAD])
        found = dict.fromkeys(one for one in following if one != self.parts[at].piece)
        return [*islice(found, _AHEAD)]

    def _begun(self, number: int, *, keep: bool) -> Future[bytes]:
        there = self._shared.get(number)
        if there is None or (there.done() and there.exception()):  # one that failed is fetched again
            self._shared[number] = in_background(self._checked, number, keep)
        self._shared.move_to_end(number)
        return self._shared[number]

    def _checked(self, number: int, keep: bool) -> bytes:
        data = self._read(number, keep)
        if len(data) != self.lengths[number]:
            raise damaged(
                "the copy", f"piece {number} has {len(data)} bytes instead of {self.lengths[number]}"
            )
        return data


class PieceReader(io.RawIOBase):
    """A seekable reader of an artifact in pieces; `in_order`: it reads all of them in order."""

    def __init__(self, pieces: Pieces, *, in_order: bool = False) -> None:
        super().__init__()
        self._pieces = pieces
        pieces.readers += 1
        self._size = pieces.starts[-1]
        self._at = 0
        #: The part that `_data` is; -1: none.
        self._part, self._data = -1, memoryview(b"")
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
        part = bisect_right(self._pieces.starts, self._at) - 1
        if part != self._part:
            self._in_order = self._in_order + 1 if part == self._part + 1 else 1
            self._part, self._data = -1, memoryview(b"")  # one piece in memory, not two
            piece = self._pieces.piece(part, ahead=self._in_order >= _IN_ORDER)
            one = self._pieces.parts[part]
            self._part, self._data = part, memoryview(piece)[one.start : one.start + one.length]
        start = self._at - self._pieces.starts[part]
        found = self._data[start : start + len(view)]
        view[: len(found)] = found
        self._at += len(found)
        return len(found)


class OpenCopy:
    """The bytes of a copy, for any number of readers; each piece is fetched when it is needed."""

    def __init__(
        self, copy: Copy, bucket: Bucket, opener: Opener, home: Path, store: str, cache: PieceCache
    ) -> None:
        """`home`: the folder for pieces that are kept for this process. `store`: its name, for messages."""
        self._document, self._bucket, self._opener = copy.document, bucket, opener
        self._what = what = f"{copy.name} in {store}"
        self._kept = KeptPieces(lambda piece: fetch(bucket, piece, what), home, copy.document.pieces, cache)
        self._artifact = Pieces(self._read, self._document.plain_lengths, self._document.artifact_parts)

    def reader(self, *, in_order: bool = False) -> BinaryIO:
        """A new reader of the artifact; `in_order`: it will read all of it in order."""
        return cast(BinaryIO, io.BufferedReader(PieceReader(self._artifact, in_order=in_order), 1 << 20))

    def list_of_files(self, most: int) -> bytes:
        """The list of files (gzip), of up to `most` bytes; RefnetError (DAMAGED) if it cannot be read."""
        if self._document.key:
            # kept: the next command that looks for a file needs them again
            read = lambda number, _: self._read(number, True)  # noqa: E731
            parts = Pieces(read, self._document.plain_lengths, self._document.list_ranges)
            stored = PieceReader(parts).readall()
            if not self._document.list_coding:
                return stored
            try:
                return igzip.compress(list_coding.decode(stored, most), 1, mtime=0)
            except ValueError as error:
                raise damaged(self._what, str(error)) from None
        return b"".join(
            decrypt(self._opener, fetch(self._bucket, one, self._what), self._what)
            for one in self._document.files
        )

    def _read(self, number: int, keep: bool) -> bytes:
        return decrypt(self._opener, self._kept.piece(number, keep=keep), self._what)
