"""Reads a file back from the disk while it is being written, so that little remains at the end."""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from xxhash import xxh3_128

_CHUNK = 1 << 20
#: Bytes that are read back at once, at least.
STEP = 32 << 20


class OnDisk(NamedTuple):
    """Size and digest of a file, read from the disk."""

    #: XXH3, to compare with what was written: it costs the writer a tenth of a SHA-256.
    xxh3: bytes
    sha256: bytes
    #: In bytes.
    size: int


class ReadBack:
    """Digests the append-only file `handle` as the disk returns it: flushed, then read past the page cache.

    A thread follows large files; `until` raises its OSErrors.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._xxh3, self._sha = xxh3_128(), hashlib.sha256()
        self._read = 0
        self._pool = ThreadPoolExecutor(1, "read-back")
        self._last: Future[None] | None = None

    def written(self, size: int) -> None:
        """Report that the file has `size` bytes now."""
        size -= size % _CHUNK
        if size - self._read >= STEP and (self._last is None or self._last.done()):
            self._last = self._pool.submit(self._follow, size)

    def until(self, size: int) -> OnDisk:
        """Digest of the first `size` bytes (everything written); fewer if the disk returns fewer.

        The last bytes are read again after further writes: only complete pages can be dropped from the page cache.
        """
        if self._last:
            self._last.result()
        self._follow(size - size % _CHUNK)
        tail = os.pread(self._handle, size - self._read, self._read)
        xxh3, sha = self._xxh3.copy(), self._sha.copy()
        xxh3.update(tail)
        sha.update(tail)
        return OnDisk(xxh3.digest(), sha.digest(), self._read + len(tail))

    def close(self) -> None:
        """Wait until the thread has stopped using the handle."""
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, end: int) -> None:
        os.fsync(self._handle)
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._handle, self._read, 0, os.POSIX_FADV_DONTNEED)
        while count := min(_CHUNK, end - self._read):
            data = os.pread(self._handle, count, self._read)
            if not data:
                return
            self._xxh3.update(data)
            self._sha.update(data)
            self._read += len(data)
