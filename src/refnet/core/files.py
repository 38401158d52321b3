"""Files and folders where other users can plant links: no link is followed, all access is by handles."""

import errno
import os
import pwd
import secrets
import shlex
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from refnet.core.errors import Exit, RefnetError

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: opening a FIFO must not block.
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
OPEN_FILE = os.O_RDONLY | _SAFELY
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: The most folders open at once while a tree is removed; deeper ones are first moved to the top of the tree.
_DEEPEST = 64


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM}
_AWAY = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ESTALE, errno.ENODEV, errno.ENXIO),
}


class TooLargeError(OSError):
    """A file that is larger than what RefNet writes there."""

    def __init__(self, name: str | Path, limit: int) -> None:
        super().__init__(errno.EINVAL, f"it is larger than {limit} bytes", str(name))


class NotRegularError(OSError):
    """A link, a device, a FIFO or a folder instead of a regular file."""

    def __init__(self, name: str | Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", str(name))


def explain(error: OSError, path: Path) -> RefnetError:
    """Return the RefnetError for an error of the operating system at `path`."""
    if isinstance(error, NotRegularError):
        return RefnetError(
            f"{path} is not a regular file; it was not changed",
            "Replace it with a regular file, or choose another path.",
        )
    if isinstance(error, TooLargeError):
        return RefnetError(f"{path}: {error.strerror}", "Check which program wrote it, and move it away.")
    if error.errno in _FULL:
        where = path if path.is_dir() else f"{path.parent} for {path.name}"
        return RefnetError(
            f"no space left in {where}",
            "Free space and retry; `refnet prune --plan` shows what can be deleted. No partial file is left.",
            transient=True,
        )
    if error.errno == errno.EROFS:
        return RefnetError(f"{path.parent} is read-only", "Mount it writable, or choose another folder.")
    if error.errno in _DENIED:
        return RefnetError(
            f"this user cannot access {path}",
            "Give the folder to this user (chown), or run as its owner.",
        )
    if error.errno in {errno.ENOTDIR, errno.EEXIST} and (file := _file_above(path)):
        if not file.is_file():
            return RefnetError(f"{file} is not a folder", "Choose another folder.")
        return RefnetError(f"{file} is a file, not a folder", "Move it away, or choose another folder.")
    if error.errno in _AWAY:
        return RefnetError(f"{path} does not exist", "Check the path, and whether its disk is mounted.")
    why = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
    return RefnetError(f"{path}: {why}", "See the system log: the disk may be full or failing.")


def _file_above(path: Path) -> Path | None:
    """The first of `path` and its parents that exists and is not a folder; None if there is none."""
    return next((one for one in (path, *path.parents) if one.exists() and not one.is_dir()), None)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise OSErrors of the block as RefnetErrors about `path`."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


@contextmanager
def opened(name: str | Path, flags: int, at: int | None = None) -> Iterator[int]:
    """Open `name`, relative to the open folder `at` if given, while the block runs. A new file is only this user's."""
    handle = os.open(name, flags, 0o600, dir_fd=at)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def descended(folder: int, names: Iterable[str]) -> Iterator[int]:
    """Open the folder at the path `names` below the open `folder`, without following links."""
    with ExitStack() as stack:
        for name in names:
            folder = stack.enter_context(opened(name, OPEN_FOLDER, folder))
        yield folder


def nearest(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def make_folders(names: Iterable[str], at: int) -> None:
    """Create the nested folders `names` below the open folder `at`, accessible only to this user."""
    with ExitStack() as stack:
        for name in names:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=at)
            at = stack.enter_context(opened(name, OPEN_FOLDER, at))


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, accessible only to this user."""
    with explained(folder):
        for missing in reversed([folder, *folder.parents]):
            if not missing.exists():
                missing.mkdir(mode=0o700, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to the disk, so that creations and removals survive a crash."""
    with explained(folder), opened(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as handle:
        os.fsync(handle)


def resolved(path: Path | str) -> Path:
    """Return `path` with links resolved; unlike Path.resolve, it accepts loops."""
    return Path(os.path.realpath(path))


def names_in(folder: int) -> list[str]:
    """Return the names in the open `folder`, sorted."""
    return sorted(os.listdir(folder))


def remove_tree(folder: Path, owners: Collection[int] | None = None) -> None:
    """Remove `folder` and its content, if it exists; follow no links, keep mounted file systems.

    owners: the user ids that it may belong to; None: this user's.

    OSError if `folder` is not a folder of these owners, or cannot be removed completely.
    """
    try:
        with opened(folder, OPEN_FOLDER) as handle:
            found = os.fstat(handle)
            if found.st_uid not in ((os.geteuid(),) if owners is None else owners):
                raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
            empty_tree(handle)
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = str(folder)
        raise


def empty_tree(folder: int) -> None:
    """Remove the content of the open `folder`, as `remove_tree` does."""
    while _empty(folder, folder, os.fstat(folder).st_dev, 0):
        pass


def _empty(folder: int, top: int, device: int, depth: int) -> bool:
    """Remove the content of the open folder; return whether anything was moved to `top` to be removed later."""
    moved = False
    with os.scandir(folder) as entries:
        there = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in there:
        with suppress(FileNotFoundError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
                continue
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if found.st_dev != device:
                raise OSError(errno.EBUSY, "another file system is mounted in it")
            _give_owner_rights(name, folder)
            if depth >= _DEEPEST:
                os.rename(name, f".removed-{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
                moved = True
                continue
            with opened(name, OPEN_FOLDER, folder) as inner:
                moved |= _empty(inner, top, device, depth + 1)
            os.rmdir(name, dir_fd=folder)
    return moved


def _give_owner_rights(name: str, folder: int) -> None:
    """Give the owner all permissions on the folder `name`; leave another user's folder unchanged."""
    with opened(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, folder) as handle:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            with suppress(PermissionError):
                os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101  # fchmod refuses such a handle


def hand_over(folder: Path, owner: int, uid: int, gid: int) -> None:
    """Give the tree `folder` of the user `owner` to another user, by handles.

    OSError if the tree contains anything but the owner's files and folders. A hard link could be any file of this
    disk, and is refused too.
    """
    for _, folders, files, handle in os.fwalk(folder, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            with opened(name, OPEN_FILE, handle) as entry:
                _give(entry, name, owner, uid, gid)
    with opened(folder, OPEN_FOLDER) as top:
        _give(top, str(folder), owner, uid, gid)


def _give(handle: int, name: str, owner: int, uid: int, gid: int) -> None:
    found = os.fstat(handle)
    twice = stat.S_ISREG(found.st_mode) and found.st_nlink > 1
    if found.st_uid != owner or twice or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise PermissionError(errno.EPERM, "another user created it", name)
    os.fchown(handle, uid, gid)


def open_file(name: str | Path, flags: int = os.O_RDONLY, *, at: int | None = None, mode: int = 0o600) -> int:
    """Open the regular file `name`, relative to the open folder `at` if given, and return its handle.

    A new file (O_CREAT in `flags`) gets `mode`. NotRegularError for a link or anything but a regular file.
    """
    return _opened_file(name, flags, at, mode)[0]


def _opened_file(name: str | Path, flags: int, at: int | None, mode: int) -> tuple[int, os.stat_result]:
    try:
        handle = os.open(name, flags | _SAFELY, mode, dir_fd=at)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise NotRegularError(name) from error
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise NotRegularError(name)
    return handle, found


def read_regular(name: str | Path, limit: int, *, at: int | None = None, owner: int | None = None) -> bytes:
    """Read the regular file `name` of at most `limit` bytes.

    Args:
        at: the open folder that `name` is relative to.
        owner: the required owner, a user id; then no other user may have write permission.

    TooLargeError if the file is larger, OSError if it has another owner; NotRegularError if it is a link or not a
    regular file.
    """
    handle, found = _opened_file(name, os.O_RDONLY, at, 0o600)
    try:
        if owner is not None and (found.st_uid != owner or found.st_mode & 0o022):
            raise PermissionError(errno.EPERM, "another user owns it, or can write to it", str(name))
        if found.st_size > limit:
            raise TooLargeError(name, limit)
        data = os.read(handle, found.st_size + 1)  # read() allocates the requested size
        while len(data) != found.st_size and len(data) <= limit:  # the size has changed meanwhile
            if not (more := os.read(handle, limit + 1 - len(data))):
                break
            data += more
    finally:
        os.close(handle)
    if len(data) > limit:
        raise TooLargeError(name, limit)
    return data


def forget_cached(reader: IO[bytes]) -> None:
    """Drop the open file from the page cache, if the system supports that: the next read comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch_again(handle: int, size: int) -> None:
    """Do as `forget_cached`, and let the disk begin to read the first `size` bytes; nothing waits for them."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(handle, 0, size, os.POSIX_FADV_WILLNEED)


def identity(reader: IO[bytes]) -> tuple[int, ...]:
    """Device, inode, size, mtime, ctime of the open file, unchanged while nothing writes to it; () without a file."""
    with suppress(OSError):
        found = os.fstat(reader.fileno())
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ()


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write `data` to a new file beside `path`, flush it to the disk and rename it to `path`.

    OSError if that fails; NotRegularError if `path` is a link, a device or a FIFO: it is neither opened nor replaced.
    """
    with opened(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as folder:
        replace_in(folder, path.name, data, mode)


def replace_in(folder: int, name: str, data: bytes, mode: int = 0o600, group: int = -1) -> None:
    """Like `replace_file`, for the file `name` in the open `folder`. group: the id of the new file's group; -1: any."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotRegularError(name)
    hidden = f".{name}.{secrets.token_hex(8)}"
    with opened(hidden, NEW_FILE, folder) as handle:
        try:
            if group != -1:
                os.fchown(handle, -1, group)
            os.fchmod(handle, mode)
            write_all(handle, data)
            os.fsync(handle)
            os.replace(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(hidden, dir_fd=folder)
            raise
    os.fsync(folder)


def write_all(handle: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`. OSError with the reason if only a part of it could be written."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(handle, left) :]


def check_own(folder: Path, what: str, advice: str, owners: Collection[int] | None = None) -> None:
    """Raise RefnetError (USAGE) if `folder` exists and belongs to another user.

    Args:
        what: the kind of folder, for the message.
        advice: the alternative to running as its owner.
        owners: the user ids that it may belong to; None: this user's.
    """
    try:
        uid = folder.stat().st_uid
    except OSError:
        return  # using the folder fails with the reason
    if uid not in ((os.geteuid(),) if owners is None else owners):
        owner = user_name(uid)
        raise RefnetError(
            f"this user cannot access {what} {folder}: it belongs to {owner}, and this user is {user_name(os.geteuid())}",
            f"Run it as that user (sudo -u {owner} refnet …), or {advice}.",
            Exit.USAGE,
        )


def check_closed(folder: Path, what: str, advice: str) -> None:
    """Raise RefnetError (USAGE) if `folder` exists and every user can write in it; see `check_own`."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
        raise RefnetError(
            f"{what} {folder} is writable by every user",
            f"Remove that permission (chmod o-w {shlex.quote(str(folder))}), or {advice}.",
            Exit.USAGE,
        )


def user_name(uid: int) -> str:
    """Return the name of the user `uid`; `#UID`, as in sudo, if there is no such user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
