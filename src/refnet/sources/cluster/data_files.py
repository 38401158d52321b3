"""Files of a data folder that is unpacked: written, written again by an increment, or removed, by handles that follow no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from refnet.core.blocks import BlockWriter
from refnet.core.files import NEW_FILE, OPEN_FILE, OPEN_FOLDER, empty_tree, names_in, opened
from refnet.postgres.account import Account

#: Opens a file that is written again; no FIFO holds it up.
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
#: Files of a folder that are flushed at once: each waits for the disk alone.
_FLUSHED = 8


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
    """Flush the open `folder`, and every plain file and folder in it, to the disk."""

    def failed(error: OSError) -> None:  # by default a folder that cannot be opened is passed over
        raise error

    with ThreadPoolExecutor(_FLUSHED, "flush") as pool:
        for _, _, names, inside in os.fwalk(".", topdown=False, onerror=failed, dir_fd=folder):
            for _ in pool.map(partial(_flush, inside), names):
                pass
            os.fsync(inside)


def _flush(folder: int, name: str) -> None:
    if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        with opened(name, OPEN_FILE, folder) as file:
            os.fsync(file)


@dataclass(frozen=True)
class Writer:
    """Writes the files of a data folder, as those of `account`."""

    account: Account
    blocks: BlockWriter

    def write(self, folder: int, name: str, content: Iterable[bytes], *, again: bool = False) -> None:
        """Write the file `name`, see `BlockWriter.write`; `again`: an earlier base may have left one."""
        left = _left(folder, name, self.account) if again else None
        file = os.open(name, NEW_FILE, 0o600, dir_fd=folder) if left is None else left
        try:
            os.fchmod(file, 0o600)
            self.blocks.write(file, content)
            give(file, self.account)
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
