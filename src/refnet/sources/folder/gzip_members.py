"""Sequences of gzip members (RFC 1952): written in parallel, readable from any member; gunzip reads them as one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, pairwise
from struct import pack
from typing import BinaryIO, Self, cast
from zlib import crc32

from isal import igzip, igzip_threaded, isal_zlib

from refnet.core.member_names import ArchiveError
from refnet.sources.folder.listing import GzipMember

#: The most raw bytes of a member, but for one file's block or many small entries.
MEMBER_BYTES = 1 << 20
#: A member of small files ends after so many raw bytes, and on average so many more, with an entry that its path chooses:
#: so a file that is new, longer or gone changes one member, and a copy shares all others.
_LEAST_GROUP, _MORE = 40 << 10, 16 << 10
#: It is deflated in stretches of so many raw bytes at least, and at most so many: those before a change stay the same, and a copy
#: shares them too. A member of one large file is not: that would be many more blocks.
_STRETCH, _MOST_STRETCHES = 16 << 10, 8
_LEVEL = 3
_GZIP = 16 + 15
#: The bytes of a member that are deflated first, in pieces: if they do not shrink, it is stored (pictures, archives).
#: A smaller member is deflated anyway.
_SAMPLES, _SAMPLE_BYTES, _LEAST_SAMPLED = 16, 1024, 128 << 10
_STORED_BYTES = 0xFFFF
#: The most bytes of a member, raw or deflated, that is inflated beside others.
_MOST_AHEAD = 4 << 20
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class MemberWriter:
    """Cuts written bytes into members, compresses them in `jobs` threads, and writes them in order to `out`."""

    def __init__(self, out: BinaryIO, jobs: int, level: int = _LEVEL) -> None:
        """`level`: ISA-L's, 0 to 3."""
        self.members: list[GzipMember] = []
        self.raw = 0
        self._out = out
        self._offset = 0
        self._level = level
        self._buffer = bytearray()
        #: Where members end in the buffer.
        self._ends: list[int] = []
        self._last_end = 0
        self._most = jobs + 2
        self._pool = ThreadPoolExecutor(jobs, "deflate")
        self._waiting: deque[tuple[int, list[int], Future[list[bytes]]]] = deque()

    def write(self, piece: bytes) -> None:
        """Append `piece`, all in the same member."""
        self.raw += len(piece)
        if not self._buffer and len(piece) >= MEMBER_BYTES:
            self._hand_over(piece, [len(piece)])  # without a copy
            return
        self._buffer += piece
        while len(self._buffer) >= MEMBER_BYTES:
            self._cut()

    @property
    def open_bytes(self) -> int:
        """Raw bytes in the member that has not ended yet."""
        return len(self._buffer) - self._last_end

    def end_entry(self, path: str, size: int) -> None:
        """The entry of `path`, of `size` bytes, is complete: end the member with it, if its turn has come."""
        full = len(self._buffer) - self._last_end >= _LEAST_GROUP
        if full and crc32(os.fsencode(path)) * _MORE < size << 32:
            self.end_member()

    def end_member(self) -> None:
        """End the member here."""
        if (have := len(self._buffer)) > self._last_end:
            self._ends.append(have)
            self._last_end = have
            if (
                have >= MEMBER_BYTES // 2
            ):  # so that nothing is left to be copied when the next piece is handed over
                self._cut()

    def _cut(self) -> None:
        """Hand the members that have ended over to be deflated; without any, everything is one."""
        buffer, ends = self._buffer, self._ends or [len(self._buffer)]
        self._buffer, self._ends, self._last_end = buffer[ends[-1] :], [], 0
        self._hand_over(buffer, ends)

    def _hand_over(self, raw: bytes | bytearray, ends: list[int]) -> None:
        """Have the members in `raw`, the last bytes that were written, deflated."""
        begin = self.raw - len(raw)
        self._waiting.append((begin, ends, self._pool.submit(_deflated, raw, ends, self._level)))
        while len(self._waiting) > self._most:
            self._take()

    def _take(self) -> None:
        begin, ends, future = self._waiting.popleft()
        for start, deflated in zip((0, *ends), future.result(), strict=False):
            self.members.append(GzipMember(begin + start, self._offset))
            self._out.write(deflated)
            self._offset += len(deflated)

    def finish(self) -> None:
        """Write the remaining bytes; afterwards `members` is complete."""
        while self._buffer:
            self._cut()
        while self._waiting:
            self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _deflated(raw: bytes | bytearray, ends: list[int], level: int) -> list[bytes]:
    with memoryview(raw) as view:
        return [_deflate(view[start:end], level) for start, end in pairwise((0, *ends))]


def _deflate(raw: memoryview, level: int) -> bytes:
    if len(raw) > _LEAST_SAMPLED and not _shrinks(raw):
        return _stored(raw)
    stretch = max(_STRETCH, len(raw) // _MOST_STRETCHES) if len(raw) < MEMBER_BYTES // 2 else len(raw)
    deflater, parts, at = isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP), list[bytes](), 0
    while len(raw) - at > stretch * 3 // 2:  # so that the last one is not short
        parts += (deflater.compress(raw[at : at + stretch]), deflater.flush(isal_zlib.Z_SYNC_FLUSH))
        at += stretch
    return b"".join((*parts, deflater.compress(raw[at:]), deflater.flush()))


def _shrinks(raw: memoryview) -> bool:
    step = len(raw) // _SAMPLES
    sample = b"".join(raw[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
    return len(isal_zlib.compress(sample, 1)) < len(sample) * 0.97


def _stored(raw: memoryview) -> bytes:
    """Return `raw` as a gzip member of stored blocks (RFC 1951, 3.2.4)."""
    pieces: list[bytes | memoryview] = [_HEADER]
    for at in range(0, len(raw), _STORED_BYTES):
        block = raw[at : at + _STORED_BYTES]
        last = at + len(block) == len(raw)
        pieces += (pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block)
    pieces.append(pack("<LL", isal_zlib.crc32(raw), len(raw)))
    return b"".join(pieces)


@contextmanager
def inflated(archive: BinaryIO, offset: int = 0) -> Iterator[BinaryIO]:
    """Open the decompressed bytes from the member at `offset`, decompressed ahead in a thread."""
    archive.seek(offset)
    with gzip_errors(), igzip_threaded.open(archive, "rb") as stream:  # type: ignore[no-untyped-call]
        yield stream


@contextmanager
def inflated_members(
    archive: BinaryIO, begins: Sequence[tuple[int, int]], raw: int, jobs: int
) -> Iterator[BinaryIO]:
    """Open the decompressed bytes as `inflated` does, decompressed ahead in `jobs` threads; it is read to its end.

    Args:
        begins: where members begin, in the raw bytes and in the archive; of one source with the archive, or forged; (): unknown.
        raw: the raw bytes of all.
    """
    size = archive.seek(0, os.SEEK_END)
    archive.seek(0)
    bounds = pairwise((*begins, (raw, size)))
    sizes = [(end[1] - at[1], end[0] - at[0]) for at, end in bounds]
    if not sizes or any(
        not 0 < packed <= _MOST_AHEAD or not 0 < plain <= _MOST_AHEAD for packed, plain in sizes
    ):
        with inflated(archive) as stream:
            yield stream
        return
    with gzip_errors(), ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(jobs, "inflate") as pool:
        members = (
            pool.submit(_inflate, reader.submit(archive.read, packed), plain) for packed, plain in sizes
        )
        ahead = _Ahead(members, jobs + 2)
        try:
            yield cast("BinaryIO", ahead)
        finally:
            ahead.cancel()


class _Ahead:
    """The raw bytes of `members`, of which at most `most` are inflated ahead."""

    def __init__(self, members: Iterator[Future[bytes]], most: int) -> None:
        self._members, self._most = members, most
        self._waiting: deque[Future[bytes]] = deque()
        self._now, self._at = b"", 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        found = list[bytes]()
        while size and (self._at < len(self._now) or self._next()):
            piece = self._now[self._at : self._at + size]  # a whole member is not copied
            self._at += len(piece)
            size -= len(piece)
            found.append(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def _next(self) -> bool:
        """Go on to the next member; False: there is none."""
        self._waiting.extend(islice(self._members, self._most - len(self._waiting)))
        if not self._waiting:
            return False
        self._now, self._at = self._waiting.popleft().result(), 0
        return True

    def cancel(self) -> None:
        for one in self._waiting:
            one.cancel()


def _inflate(packed: Future[bytes], size: int) -> bytes:
    """Inflate one member of `size` raw bytes; ArchiveError if it is another."""
    inflater = isal_zlib.decompressobj(_GZIP)
    data = inflater.decompress(packed.result(), size + 1)
    if len(data) != size or not inflater.eof or inflater.unused_data:
        raise ArchiveError("its gzip members are not those of its index")
    return data


@contextmanager
def inflated_from(archive: BinaryIO, offset: int) -> Iterator[BinaryIO]:
    """Open the decompressed bytes from the member at `offset`, decompressed on demand."""
    archive.seek(offset)
    with gzip_errors(), igzip.IGzipFile(fileobj=archive, mode="rb") as stream:  # type: ignore[no-untyped-call]
        yield cast("BinaryIO", stream)


@contextmanager
def gzip_errors() -> Iterator[None]:
    """Turn gzip's errors into ArchiveErrors."""
    try:
        yield
    except igzip.BadGzipFile as error:
        raise ArchiveError(f"the archive is not a gzip file, or damaged: {error}") from error
    except EOFError as error:
        raise ArchiveError("the archive is cut short") from error
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub does not declare a class
        raise ArchiveError(f"the archive is damaged: {error}") from error
