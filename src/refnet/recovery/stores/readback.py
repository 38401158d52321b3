"""Reads a file back from the disk while it is still being written, so that its end waits for little."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

_CHUNK = 1 << 20
#: Bytes that must have been written since the last look.
STEP = 32 << 20


class ReadBack:
    """What the disk gives back of the append-only file `handle`: made durable, then read past the page cache.

    Large files are followed by a thread of this object's own. OSErrors of that thread come out of `end`.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._sha = hashlib.sha256()
        self._read = 0
        self._pool = ThreadPoolExecutor(1, "read-back")
        self._last: Future[None] | None = None

    def written(self, size: int) -> None:
        """The file is `size` bytes long by now."""
        size -= size % _CHUNK  # the page cache gives up whole pages alone
        if size - self._read >= STEP and (self._last is None or self._last.done()):
            self._last = self._pool.submit(self._follow, size)

    def end(self) -> tuple[str, int]:
        """Follow to the file's end: the digest (SHA-256, hex) and the size of all that the disk gives back."""
        if self._last:
            self._last.result()
        self._follow(None)
        return self._sha.hexdigest(), self._read

    def close(self) -> None:
        """Wait for the thread, which uses the handle."""
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
