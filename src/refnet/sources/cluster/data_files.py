"""Files of a data folder that is unpacked: written, written again by an increment, or removed, by handles that follow no link."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from refnet.core.files import (
    NEW_FILE,
    OPEN_FILE,
    OPEN_FOLDER,
    begin_writing,
    empty_tree,
    names_in,
    opened,
    write_all,
)
from refnet.postgres.account import Account

#: Opens a file that is written again; no FIFO holds it up.
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
#: Files of a folder that are flushed at once: each waits for the disk alone.
_FLUSHED = 8
#: Bytes of a block of a large file, and how many of one are written or wait for it.
LARGE, _AHEAD = 1 << 20, 4


def remove_unseen(folder: int, path: str, seen: set[str], kept: Collection[str]) -> None:
    """Remove what is in the open folder `path/` of a data folder, but the paths `seen`, and all in the folders `kept`."""
    for name in names_in(folder):
        inner = f"{path}{name}"
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if inner in seen:
            if is_folder and inner not in kept:
                with opened(name, OPEN_FOLDER, folder) as below:
                    remove_unseen(below, f"{inner}/", seen, kept)
        elif is_folder:
            with opened(name, OPEN_FOLDER, folder) as below:
                empty_tree(below)
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def flush(folder: int) -> None:
    """Flush the open `folder`, and every file and folder in it, to the disk, which begins with all files at once."""
    with ThreadPoolExecutor(_FLUSHED, "flush") as pool:
        _each(folder, begin_writing, pool)
        _each(folder, os.fsync, pool)


def _each(folder: int, act: Callable[[int], None], pool: ThreadPoolExecutor) -> None:
    """Call `act` with every plain file and folder in `folder`, open, and with `folder`."""

    def act_on(name: str) -> None:
        with opened(name, OPEN_FILE, folder) as file:
            act(file)

    files = list[str]()
    for name in names_in(folder):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            with opened(name, OPEN_FOLDER, folder) as below:
                _each(below, act, pool)
        elif stat.S_ISREG(mode):
            files.append(name)
    for _ in pool.map(act_on, files):
        pass
    act(folder)


@dataclass(frozen=True)
class Writer:
    """Writes files of `account`; the blocks of large ones in the threads of `pool`, while others are inflated."""

    account: Account
    pool: ThreadPoolExecutor
    #: They will be flushed: the blocks go past the page cache, which would cost more than the disk.
    durable: bool
    _of_thread: threading.local = field(default_factory=threading.local)

    def write(self, folder: int, name: str, content: Iterable[bytes], *, again: bool = False) -> None:
        """Write the file `name` of blocks of 1 MiB and a last one; `again`: an earlier base may have left one."""
        left = _left(folder, name, self.account) if again else None
        file = os.open(name, NEW_FILE, dir_fd=folder) if left is None else left
        try:
            os.fchmod(file, 0o600)
            size = self._write_blocks(file, content)
            if left is not None or size > LARGE:
                os.ftruncate(file, size)
            give(file, self.account)
        finally:
            os.close(file)

    def _write_blocks(self, file: int, content: Iterable[bytes]) -> int:
        """Write all blocks; return their bytes."""
        waiting, at = deque[Future[None]](), 0
        try:
            for block in content:
                if not at and len(block) < LARGE:
                    write_all(file, block)
                else:
                    if not at and self.durable:
                        _go_past_cache(file, os.O_DIRECT)
                    waiting.append(self.pool.submit(self._write_block, file, block, at))
                    if len(waiting) > _AHEAD:
                        waiting.popleft().result()
                at += len(block)
        finally:
            wait(waiting)  # the threads use the handle
        for one in waiting:
            one.result()
        return at

    def _write_block(self, file: int, block: bytes, at: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            own = self._of_thread
            own.buffer = buffer = getattr(own, "buffer", None) or mmap.mmap(-1, LARGE)
            buffer[: len(block)] = block
            try:
                _write_at(file, memoryview(buffer)[: len(block) + -len(block) % mmap.PAGESIZE], at)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                _go_past_cache(file, 0)
            else:
                return
        _write_at(file, memoryview(block), at)


def _go_past_cache(file: int, direct: int) -> None:
    """Let what is written to the open file go past the page cache, if its file system can do that; `direct` 0: no longer."""
    with suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_DIRECT | direct)


def _write_at(file: int, left: memoryview, at: int) -> None:
    while left:
        count = os.pwrite(file, left, at)
        left, at = left[count:], at + count


def _left(folder: int, name: str, account: Account) -> int | None:
    """Open the plain file of `account` that an earlier base left; None: there is none, or it was another, and is removed.

    A new file would cost more: ext4 looks at every inode that was deleted in the last minutes before it takes one.
    """
    try:
        handle = os.open(name, _AGAIN, dir_fd=folder)
    except FileNotFoundError:
        return None
    found = os.fstat(handle)
    if stat.S_ISREG(found.st_mode) and (found.st_nlink, found.st_uid) == (1, account.uid):
        return handle
    os.close(handle)
    os.unlink(name, dir_fd=folder)
    return None


def give(handle: int, account: Account) -> None:
    """Make the open file one of `account`."""
    if account.other:
        os.fchown(handle, account.uid, account.gid)
