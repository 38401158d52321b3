"""Reads trusted files: they and every folder above them belong to root or to this process's user, and no other user can
write to them.

A path is walked handle by handle, links included, so that nothing can be replaced between the check and the read.
"""

import errno
import os
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import user_name

#: The most links on one path, as in the kernel.
_LINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True)
class TrustedFile:
    """The content and mode of a file."""

    content: bytes
    #: The permission bits.
    mode: int

    @property
    def readable_by_others(self) -> bool:
        """Whether the mode lets other users read the file."""
        return bool(self.mode & _OTHERS_READ)


def trusted_users() -> frozenset[int]:
    """Return the user ids with trusted files: root's, and this process's."""
    return frozenset({0, os.geteuid()})


def read(path: Path, limit: int, users: Collection[int] | None = None) -> TrustedFile:
    """Read a trusted file; RefnetError (USAGE) names the file or folder that another user could write to.

    Args:
        limit: the largest size, in bytes.
        users: allowed owners of the file and the folders above it; None: `trusted_users`.

    OSError if it does not exist or cannot be read.
    """
    with _opened(path, trusted_users() if users is None else users) as handle:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path)
        content = b""
        while len(content) <= limit and (piece := os.read(handle, limit + 1 - len(content))):
            content += piece
        if len(content) > limit:
            raise RefnetError(
                f"{shown(path)} is larger than {limit:,} bytes",
                f"Reduce its content to at most {limit:,} bytes.",
                Exit.USAGE,
            )
        return TrustedFile(content, stat.S_IMODE(status.st_mode))


def check(path: Path, users: Collection[int] | None = None) -> None:
    """Raise RefnetError (USAGE) if another user could write `path` or a folder above it; OSError if it does not exist."""
    with _opened(path, trusted_users() if users is None else users):
        pass


def open_folder(path: Path) -> int:
    """Open the folder at `path`. For root, a link on the way that another user made must lead to a folder of that user.

    RefnetError (USAGE) if it leads elsewhere; OSError if there is no such folder.
    """
    handle = os.open(path, _FOLDER)  # by the kernel, which mounts what is on the way
    if os.geteuid() or _is_at(handle, path):
        return handle
    os.close(handle)
    walk = _LinkOwners(())
    try:
        handle = os.open(".", _FOLDER, dir_fd=walk.to(path.absolute()))
    finally:
        walk.close()
    others = walk.owners - trusted_users()
    if others - {os.fstat(handle).st_uid}:
        os.close(handle)
        raise RefnetError(
            f"{shown(path)} follows a symbolic link of {user_name(min(others))} into a folder of another user",
            "Give the path without the link, or run as the owner of the folder.",
            Exit.USAGE,
        )
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether no link led to the open folder."""
    try:
        return Path(f"/proc/self/fd/{handle}").readlink() == path.absolute()
    except OSError:
        return False


def fault(path: Path, status: os.stat_result, users: Collection[int]) -> RefnetError | None:
    """The error for an untrusted owner or mode of `path`, or for a device; None if only `users` can change it."""
    if stat.S_IFMT(status.st_mode) not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        return _not_a_file(path)  # nobody is told to change the mode of a device
    if status.st_uid not in users:
        owner = "root" if users == {0} else "root or this user"
        return RefnetError(
            f"{shown(path)} belongs to {user_name(status.st_uid)}, not to {owner}",
            f"Its owner could run programs as this user. If the file is yours: `chown {user_name(os.geteuid())} "
            f"{shlex.quote(shown(path))}`.",
            Exit.USAGE,
        )
    open_to_all = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(status.st_mode) or open_to_all or not status.st_mode & _OTHERS_WRITE:
        return None
    return RefnetError(
        f"{shown(path)} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
        f"They could run programs as this user: `chmod go-w {shlex.quote(shown(path))}`.",
        Exit.USAGE,
    )


def _not_a_file(path: Path) -> RefnetError:
    return RefnetError(f"{shown(path)} is not a file", "Replace it with a regular file.", Exit.USAGE)


def shown(path: Path) -> str:
    """Return `path` for a message, without control characters."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


@contextmanager
def _opened(path: Path, users: Collection[int]) -> Iterator[int]:
    """Open the target of `path`, and check each component."""
    walk = _Walk(users)
    try:
        yield walk.to(path.absolute())
    finally:
        walk.close()


class _Walk:
    """A walk along a path, with open handles from the root to the current component, the last one."""

    def __init__(self, users: Collection[int]) -> None:
        self._users = users
        self._at: list[tuple[str, int]] = []
        self._links = 0

    def to(self, path: Path) -> int:
        todo = list(reversed(path.parts))
        while todo:
            todo += reversed(self._step(todo.pop()))
        return self._at[-1][1]

    def close(self) -> None:
        while self._at:
            os.close(self._at.pop()[1])

    def _step(self, name: str) -> tuple[str, ...]:
        """Go to `name`; if it is a link, return the parts of its target instead."""
        if name == "/":
            self.close()
            self._take(name, os.open(name, os.O_PATH | os.O_DIRECTORY))
        elif name == "..":
            if len(self._at) > 1:
                os.close(self._at.pop()[1])
        elif stat.S_ISLNK((seen := os.stat(name, dir_fd=self._folder, follow_symlinks=False)).st_mode):
            return self._link(name)
        elif stat.S_ISREG(seen.st_mode):  # opened for reading, and checked again by its handle
            self._take(name, os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._folder))
        else:
            self._take(name, os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._folder))
        return ()

    def _link(self, name: str) -> tuple[str, ...]:
        self._links += 1
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._folder)
        try:
            self._check(name, handle)
            if self._links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return Path(os.readlink("", dir_fd=handle)).parts
        finally:
            os.close(handle)

    @property
    def _folder(self) -> int:
        return self._at[-1][1]

    def _take(self, name: str, handle: int) -> None:
        self._at.append((name, handle))
        self._check("", handle)

    def _check(self, name: str, handle: int) -> None:
        path = Path(*(each for each, _ in self._at), name)
        if wrong := fault(path, os.fstat(handle), self._users):
            raise wrong


class _LinkOwners(_Walk):
    """A walk without checks that records the owners of the links on the way."""

    def __init__(self, users: Collection[int]) -> None:
        super().__init__(users)
        self.owners: set[int] = set()

    def _check(self, _name: str, handle: int) -> None:
        status = os.fstat(handle)
        if stat.S_ISLNK(status.st_mode):
            self.owners.add(status.st_uid)
