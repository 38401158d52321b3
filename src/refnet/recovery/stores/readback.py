"""Read a file back from the disk while it is being written, so that little is left at its end."""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

_CHUNK = 1 << 20
#: Bytes that are read back at once, at least.
STEP = 32 << 20


class ReadBack:
    """The digest of the append-only file `handle` as the disk returns it: flushed, then read past the page cache.

    A thread follows large files; `end` raises its OSErrors.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._sha = hashlib.sha256()
        self._read = 0
        self._pool = ThreadPoolExecutor(1, "read-back")
        self._last: Future[None] | None = None

    def written(self, size: int) -> None:
        """Report that the file has `size` bytes now."""
        size -= size % _CHUNK  # only complete pages can be dropped from the page cache
        if size - self._read >= STEP and (self._last is None or self._last.done()):
            self._last = self._pool.submit(self._follow, size)

    def end(self) -> tuple[str, int]:
        """Read to the end; return the digest (SHA-256, hex) and the size in bytes of what the disk returns."""
        if self._last:
            self._last.result()
        self._follow(None)
        return self._sha.hexdigest(), self._read

    def close(self) -> None:
        """Wait until the thread has stopped using the handle."""
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, end: int | None) -> None:
        os.fsync(self._handle)
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._handle, self._read, 0, os.POSIX_FADV_DONTNEED)
        while count := _CHUNK if end is None else min(_CHUNK, end - self._read):
            data = os.pread(self._handle, count, self._read)
            if not data:
                return
            self._sha.update(data)
            self._read += len(data)
