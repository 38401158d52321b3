"""A bucket in a folder: a disk or a network share that is mounted here (`file:///mnt/nas/refnet`).

The folder must exist. RefNet never creates it, as it would then fill the disk below a share that is not mounted. An
object is written to a hidden file, flushed, linked to its name, and the folder is flushed. No link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from refnet.core import files
from refnet.core.files import (
    NEW_FILE,
    OPEN_FOLDER,
    NotRegularError,
    TooLargeError,
    descended,
    opened,
    read_regular,
    user_name,
)
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import (
    BucketError,
    BucketFailure,
    Stored,
    Version,
    checked_name,
    hidden_name,
    is_leftover,
    is_name,
)

#: Errors of a file system without hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
#: Errors where a folder is missing, or something else has its name.
_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
#: The latest time of a file, in seconds since 1970: a file system may have one that no calendar has.
_LATEST = 1 << 37
_KINDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), BucketFailure.FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), BucketFailure.REFUSED),
    **dict.fromkeys((errno.ELOOP, errno.ENOTDIR), BucketFailure.DAMAGED),
}


class FolderBucket:
    """Objects as files (0600) in private folders (0700) below `root`, an absolute path.

    Another user's folder can be read, as a recovery from the disk of another machine does, but not written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shown = f"file://{root}"
        self._cleaned = False

    def put(self, name: str, data: bytes) -> str:
        *parents, last = checked_name(name).split("/")
        with self._explained(name), self._opened(writing=True) as root:
            _make_folders(parents, root)
            with descended(root, parents) as folder:
                try:
                    self._write(data, root, (folder, last))
                except FileExistsError:
                    if not _is_same(folder, last, data):
                        raise bucket.exists(name, self.shown) from None
                os.fsync(folder)
        return ""

    def get(self, name: str, most: int, *, version: str = "") -> bytes:  # noqa: ARG002  # it has none
        *parents, last = checked_name(name).split("/")
        with self._explained(name), self._opened() as root:
            try:
                with descended(root, parents) as folder:
                    return read_regular(last, most, at=folder)
            except FileNotFoundError:
                raise bucket.missing(name, self.shown) from None
            except TooLargeError:
                raise bucket.too_large(name, self.shown, most) from None

    def listed(self, prefix: str) -> Iterator[Stored]:
        above, slash, _ = prefix.rpartition("/")
        if slash and not is_name(above):
            return
        with self._explained(prefix), self._opened() as root, ExitStack() as opened_:
            folder = root
            if slash:
                try:
                    folder = opened_.enter_context(descended(root, above.split("/")))
                except OSError as error:
                    if error.errno in _NO_FOLDER:
                        return
                    raise
            yield from _found(folder, above + slash, prefix)

    def versions(self, prefix: str) -> Iterator[Version]:
        return bucket.unversioned(self.listed(prefix))

    def folders(self, *, deleted: bool = False) -> list[str]:  # noqa: ARG002  # it has no versions
        with self._explained(""), self._opened() as root:
            names = (end.removesuffix("/") for end in _ends(root) if end.endswith("/"))
            return bucket.top_folders(names, self.shown)

    def delete(self, name: str, *, version: str = "") -> None:  # noqa: ARG002  # it has none
        *parents, last = checked_name(name).split("/")
        with self._explained(name), self._opened(writing=True) as root, suppress(FileNotFoundError):
            with descended(root, parents) as folder:
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
            for depth in reversed(range(len(parents))):
                with suppress(OSError), descended(root, parents[:depth]) as above:  # it is not empty
                    os.rmdir(parents[depth], dir_fd=above)

    @contextmanager
    def _opened(self, *, writing: bool = False) -> Iterator[int]:
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise BucketError(
                BucketFailure.UNREACHABLE,
                f"the folder {self.root} does not exist",
                "Mount its disk, or create it: RefNet does not, as it could fill the disk below a missing mount.",
            ) from None
        try:
            if writing:
                self._check_own(os.fstat(handle))
            yield handle
        finally:
            os.close(handle)

    def check_writing(self) -> bool:
        """Whether its group can write too; BucketError if this user cannot, or everybody can."""
        with self._explained(""), self._opened(writing=True) as root:
            return bool(os.fstat(root).st_mode & stat.S_IWGRP)

    def _check_own(self, found: os.stat_result) -> None:
        why = ""
        if found.st_uid != os.geteuid():
            why = f"belongs to {user_name(found.st_uid)}, and this user is {user_name(os.geteuid())}"
        elif found.st_mode & stat.S_IWOTH:
            why = "can be written by every user"
        if why:
            raise BucketError(
                BucketFailure.REFUSED,
                f"the folder {self.root} {why}",
                "Make it private to this user (chown, chmod 0700).",
            )

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = files.explain(error, self.root / name)
            kind = (
                BucketFailure.DAMAGED if isinstance(error, NotRegularError) else _KINDS.get(error.errno or 0)
            )
            raise BucketError(kind or BucketFailure.UNREACHABLE, said.message, said.hint) from error

    def _write(self, data: bytes, root: int, final: tuple[int, str]) -> None:
        """Write a hidden file in `root` and link it to `final`, a folder and a name. FileExistsError if that exists."""
        hidden = hidden_name()
        with opened(hidden, NEW_FILE, root) as handle:
            try:
                os.fchmod(handle, 0o600)
                if not self._cleaned:
                    self._cleaned = True
                    _clean(root, os.fstat(handle).st_mtime)
                files.write_all(handle, data)
                os.fsync(handle)
                _link((root, hidden), final)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(hidden, dir_fd=root)


def _link(hidden: tuple[int, str], final: tuple[int, str]) -> None:
    try:
        os.link(hidden[1], final[1], src_dir_fd=hidden[0], dst_dir_fd=final[0], follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with suppress(FileNotFoundError):
            os.stat(final[1], dir_fd=final[0], follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), final[1]) from error
        os.rename(hidden[1], final[1], src_dir_fd=hidden[0], dst_dir_fd=final[0])


def _clean(root: int, now: float) -> None:
    """Remove the hidden files of killed runs. `now`: by the clock of the file system, in seconds since 1970."""
    for name in os.listdir(root):
        with suppress(OSError):
            if is_leftover(name, os.stat(name, dir_fd=root, follow_symlinks=False).st_mtime, now):
                os.unlink(name, dir_fd=root)


def _make_folders(names: list[str], at: int) -> None:
    """Create the folders `names`, each in the one before, durably."""
    for depth, name in enumerate(names):
        with descended(at, names[:depth]) as above, suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
            os.fsync(above)


def _is_same(folder: int, name: str, data: bytes) -> bool:
    try:
        return read_regular(name, len(data), at=folder) == data
    except (NotRegularError, TooLargeError):
        return False


def _found(folder: int, above: str, prefix: str) -> Iterator[Stored]:
    """Yield the objects in the open `folder`, in the order of their names. `above`: its name and a slash, or ""."""
    for end in sorted(_ends(folder)):
        name = f"{above}{end}"
        if end.endswith("/"):
            if is_name(name[:-1]) and (name.startswith(prefix) or prefix.startswith(name)):
                with suppress(FileNotFoundError), opened(end[:-1], OPEN_FOLDER, folder) as inner:
                    yield from _found(inner, name, prefix)
        elif is_name(name) and name.startswith(prefix):
            with suppress(FileNotFoundError):
                one = os.stat(end, dir_fd=folder, follow_symlinks=False)
                modified = datetime.fromtimestamp(min(max(one.st_mtime, 0), _LATEST), UTC)
                # anyone who overwrites a file can set its time of modification, not that of its change
                yield Stored(name, one.st_size, modified, f"{one.st_ctime_ns:x}-{one.st_ino:x}")


def _ends(folder: int) -> Iterator[str]:
    """Yield names of files and, with a slash, of folders: they then sort like object names."""
    with os.scandir(folder) as found:
        for one in found:
            if one.is_dir(follow_symlinks=False):
                yield f"{one.name}/"
            elif one.is_file(follow_symlinks=False):
                yield one.name
