"""Long files, written by blocks: in threads, and past the page cache where they will be flushed anyway.

A copy into new pages of the cache costs more than the write of a fast disk, which then reads memory that is used again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from refnet.core.files import write_all
from refnet.core.signals import delayed

#: Bytes of a block, and how many of a file are being written, or wait for it.
BLOCK, _AHEAD = 1 << 20, 4


@dataclass(frozen=True)
class BlockWriter:
    """Writes long files in the threads of `pool`, while others bring the next block."""

    pool: ThreadPoolExecutor
    #: Write past the page cache (O_DIRECT), if the file system can do that.
    past_cache: bool
    _of_thread: threading.local = field(default_factory=threading.local)

    def write(self, file: int, content: Iterable[bytes]) -> None:
        """Write `content` over the open `file`: blocks of 1 MiB and a last one that may be shorter, or one shorter piece."""
        waiting, at = deque[Future[None]](), 0
        try:
            for block in content:
                if not at and len(block) < BLOCK:
                    write_all(file, block)
                else:
                    if not at and self.past_cache:
                        _go_past_cache(file, os.O_DIRECT)
                    waiting.append(self.pool.submit(self._write_block, file, block, at))
                    if len(waiting) > _AHEAD:
                        waiting.popleft().result()
                at += len(block)
        finally:
            with delayed():
                wait(waiting)  # the threads use the handle
        for one in waiting:
            one.result()
        if os.fstat(file).st_size != at:  # it was longer, or the last block is not one of whole pages
            os.ftruncate(file, at)

    def _write_block(self, file: int, block: bytes, at: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            own = self._of_thread  # the kernel reads whole pages
            own.pages = pages = getattr(own, "pages", None) or mmap.mmap(-1, BLOCK)
            pages[: len(block)] = block
            try:
                _write_at(file, memoryview(pages)[: len(block) + -len(block) % mmap.PAGESIZE], at)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                _go_past_cache(file, 0)  # its file system demands more than pages
            else:
                return
        _write_at(file, memoryview(block), at)


def _go_past_cache(file: int, direct: int) -> None:
    """Let writes to the open file go past the page cache, if its file system can do that; `direct` 0: no longer."""
    with suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_DIRECT | direct)


def _write_at(file: int, left: memoryview, at: int) -> None:
    while left:
        count = os.pwrite(file, left, at)
        left, at = left[count:], at + count
