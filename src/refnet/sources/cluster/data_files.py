"""Files of a data folder that is unpacked: written, written again by an increment, or removed, by handles that follow no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

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
#: Blocks of a file, of 1 MiB, after which the disk begins to write them.
_EARLY = 8


def remove_unseen(folder: int, path: str, seen: set[str], kept: str) -> None:
    """Remove what is in the open folder `path/` of a data folder, but the paths `seen`, and the folder `kept`."""
    for name in names_in(folder):
        inner = f"{path}{name}"
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        if inner in seen:
            if is_folder and inner != kept:
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


def write(
    folder: int,
    name: str,
    content: Iterable[bytes],
    account: Account,
    *,
    again: bool = False,
    durable: bool = False,
) -> None:
    """Write a file; `again`: an earlier base may have left one. `durable`: it will be flushed; the disk begins at once."""
    left = _left(folder, name, account) if again else None
    file = os.open(name, NEW_FILE, dir_fd=folder) if left is None else left
    try:
        os.fchmod(file, 0o600)
        for number, block in enumerate(content, 1):
            write_all(file, block)
            if durable and number % _EARLY == 0:
                begin_writing(file)
        if left is not None:
            os.ftruncate(file, os.lseek(file, 0, os.SEEK_CUR))
        give(file, account)
    finally:
        os.close(file)


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
