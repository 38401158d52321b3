"""Sequences of gzip members (RFC 1952): written in parallel, readable from any member; gunzip reads them as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from struct import pack
from typing import BinaryIO, Self, cast

from isal import igzip, igzip_threaded, isal_zlib

from refnet.core.member_names import ArchiveError
from refnet.sources.folder.listing import GzipMember

#: Raw bytes of a member: large enough to compress well, small enough to read a single note fast.
MEMBER_BYTES = 1 << 20
_LEVEL = 2
_GZIP = 16 + 15
#: The bytes of a member that are deflated first, in pieces: if they do not shrink, it is stored (pictures, archives).
_SAMPLES, _SAMPLE_BYTES = 16, 1024
_STORED_BYTES = 0xFFFF
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class MemberWriter:
    """Cuts written bytes into members, compresses them in `jobs` threads, and writes them in order to `out`."""

    def __init__(self, out: BinaryIO, jobs: int) -> None:
        self.members: list[GzipMember] = []
        self.raw = 0
        self._out = out
        self._offset = 0
        self._buffer = bytearray()
        self._most = jobs + 2
        self._pool = ThreadPoolExecutor(jobs, "deflate")
        self._waiting: deque[tuple[int, Future[bytes]]] = deque()

    def write(self, piece: bytes) -> None:
        """Append `piece`, all in the same member."""
        self._buffer += piece
        self.raw += len(piece)
        if len(self._buffer) >= MEMBER_BYTES:
            self._cut()

    def _cut(self) -> None:
        begin = self.raw - len(self._buffer)
        self._waiting.append((begin, self._pool.submit(_deflate, self._buffer)))
        self._buffer = bytearray()
        while len(self._waiting) > self._most:
            self._take()

    def _take(self) -> None:
        begin, future = self._waiting.popleft()
        deflated = future.result()
        self.members.append(GzipMember(begin, self._offset))
        self._out.write(deflated)
        self._offset += len(deflated)

    def finish(self) -> None:
        """Write the remaining bytes; afterwards `members` is complete."""
        if self._buffer:
            self._cut()
        while self._waiting:
            self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _deflate(raw: bytearray) -> bytes:
    if len(raw) > 2 * _SAMPLES * _SAMPLE_BYTES and not _shrinks(raw):
        return _stored(raw)
    deflater = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    return deflater.compress(raw) + deflater.flush()


def _shrinks(raw: bytearray) -> bool:
    step = len(raw) // _SAMPLES
    sample = b"".join(raw[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
    return len(isal_zlib.compress(sample, 1)) < len(sample) * 0.97


def _stored(raw: bytearray) -> bytes:
    """Return `raw` as a gzip member of stored blocks (RFC 1951, 3.2.4)."""
    pieces: list[bytes | memoryview] = [_HEADER]
    with memoryview(raw) as view:
        for at in range(0, len(view), _STORED_BYTES):
            block = view[at : at + _STORED_BYTES]
            last = at + len(block) == len(view)
            pieces += (pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block)
        pieces.append(pack("<LL", isal_zlib.crc32(view), len(view)))
        return b"".join(pieces)


@contextmanager
def inflated(archive: BinaryIO, offset: int = 0) -> Iterator[BinaryIO]:
    """Open the decompressed bytes from the member at `offset`, decompressed ahead in a thread."""
    archive.seek(offset)
    with gzip_errors(), igzip_threaded.open(archive, "rb") as stream:  # type: ignore[no-untyped-call]
        yield stream


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
