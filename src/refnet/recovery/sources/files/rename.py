"""Renames that exchange two entries at once, and what keeps an entry from being renamed."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_NO_REPLACE, _EXCHANGE = 1, 2
_MOUNTS = Path("/proc/self/mountinfo")
#: What a kernel or a file system answers that has no such rename.
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


#: An entry: the handle of the folder that holds it, and its name there.
Entry = tuple[int, str]


def exchange(one: Entry, other: Entry) -> bool:
    """Exchange two entries of one file system in a single step; False where it cannot do that. OSError else."""
    return _renameat2(one, other, _EXCHANGE)


def move(old: Entry, new: Entry) -> None:
    """Rename without ever overwriting: FileExistsError where `new` is taken."""
    if _renameat2(old, new, _NO_REPLACE):
        return
    if is_there(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new[1])
    os.rename(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0])


def is_there(entry: Entry) -> bool:
    """Whether `entry` exists; a link is not followed."""
    try:
        inode(entry)
    except FileNotFoundError:
        return False
    return True


def inode(entry: Entry) -> int:
    """The inode of `entry`; a link is not followed."""
    return os.stat(entry[1], dir_fd=entry[0], follow_symlinks=False).st_ino


def _renameat2(old: Entry, new: Entry, flag: int) -> bool:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(old[0], os.fsencode(old[1]), new[0], os.fsencode(new[1]), ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), old[1], None, new[1])


def sync_all(folder: int) -> None:
    """Write everything of the file system of the open `folder` to the disk."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(folder):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path`, a file or folder; such an entry cannot be renamed."""
    try:
        if path.lstat().st_dev != path.parent.stat().st_dev:
            return True
    except OSError:
        return False
    return _real(path) in _mounts()


def mounts_below(folder: Path) -> list[Path]:
    """Where something is mounted in `folder`, at any depth."""
    start = _real(folder) + b"/"
    return [Path(os.fsdecode(mount)) for mount in _mounts() if mount.startswith(start)]


def _real(path: Path) -> bytes:
    return os.fsencode(path.parent.resolve() / path.name)


def _mounts() -> list[bytes]:
    """Every mount point that this process sees; none where the system does not say."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    return [_unescaped(line.split(b" ")[4]) for line in lines]


def _unescaped(raw: bytes) -> bytes:
    """A path of mountinfo, where space, tab, newline and backslash stand as octal numbers."""
    for octal in (b"040", b"011", b"012", b"134"):
        raw = raw.replace(b"\\" + octal, bytes([int(octal, 8)]))
    return raw
