"""Atomic swaps and renames of entries, and the mount points that prevent them."""

import ctypes
import errno
import os
from pathlib import Path

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_MOUNTS = Path("/proc/self/mountinfo")
#: Errors of a kernel or a file system without such a rename.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


#: An entry: the handle of its open folder, and its name there.
Entry = tuple[int, str]


def swap(one: Entry, other: Entry) -> bool:
    """Swap two entries of one file system atomically; return False if that is not supported."""
    return _renameat2(one, other, _RENAME_EXCHANGE)


def move(old: Entry, new: Entry) -> None:
    """Rename without overwriting. FileExistsError if `new` exists."""
    if _renameat2(old, new, _RENAME_NOREPLACE):
        return
    if exists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new[1])
    os.rename(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0])


def swap_in(fresh: Entry, live: Entry, previous: Entry) -> None:
    """Make `fresh` the live entry; the replaced one is afterwards at `fresh` or `previous`."""
    if exists(live):
        if swap(fresh, live):
            return
        move(live, previous)
    move(fresh, live)


def exists(entry: Entry) -> bool:
    """Return True if `entry` exists; do not follow a link."""
    try:
        inode(entry)
    except FileNotFoundError:
        return False
    return True


def inode(entry: Entry) -> int:
    """Return the inode of `entry`; do not follow a link."""
    return os.stat(entry[1], dir_fd=entry[0], follow_symlinks=False).st_ino


def _renameat2(old: Entry, new: Entry, flag: int) -> bool:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(old[0], os.fsencode(old[1]), new[0], os.fsencode(new[1]), ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), old[1], None, new[1])


def sync_all(folder: int) -> None:
    """Flush the file system of the open `folder` to the disk."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(folder):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path` (file or folder), which prevents renaming."""
    try:
        if path.lstat().st_dev != path.parent.stat().st_dev:
            return True
    except OSError:
        return False
    return _real(path) in _mounts()


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points in `folder`, at any depth."""
    start = _real(folder) + b"/"
    return [Path(os.fsdecode(mount)) for mount in _mounts() if mount.startswith(start)]


def _real(path: Path) -> bytes:
    return os.fsencode(path.parent.resolve() / path.name)


def _mounts() -> list[bytes]:
    """All mount points visible to this process; empty if the system does not list them."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    return [_unescaped(line.split(b" ")[4]) for line in lines]


def _unescaped(raw: bytes) -> bytes:
    """Decode a path of mountinfo: space, tab, newline and backslash are octal escapes."""
    for octal in (b"040", b"011", b"012", b"134"):
        raw = raw.replace(b"\\" + octal, bytes([int(octal, 8)]))
    return raw
