"""Files and folders by handles that follow no link, for root among folders that other users can write. No dependencies."""

from __future__ import annotations

import os
import stat
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: The most links on one path, bytes of a file that is read, and folders in each other.
_LINKS, _LARGEST, _DEEPEST = 40, 64 << 10, 64


class FailedError(Exception):
    """What is wrong, and what to do."""


def fail(what: str, advice: str) -> NoReturn:
    raise FailedError(what, advice)


@contextmanager
def opened(name: str | Path, flags: int, at: int | None = None) -> Iterator[int]:
    """Open `name`, in the open folder `at`, while the block runs."""
    handle = os.open(name, flags, 0o600, dir_fd=at)
    try:
        yield handle
    finally:
        os.close(handle)


def names(folder: int) -> list[str]:
    """The names in an open folder."""
    return os.listdir(folder)


def only_root_changes(found: os.stat_result) -> bool:
    """Whether root alone decides about the names in a folder, or about their owners' own in a sticky one."""
    return found.st_uid == 0 and (bool(found.st_mode & stat.S_ISVTX) or not found.st_mode & _OTHERS_WRITE)


@contextmanager
def entered(path: Path, *, make: bool = False) -> Iterator[Folder]:
    """Open the folder `path`; links are followed only where root made them in folders of root, the last one never.

    make: make missing folders, for root alone.
    """
    at, todo, links, walked = os.open("/", FOLDER), [*reversed(path.parts[1:])], 0, Path("/")
    try:
        while todo:
            name = todo.pop()
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=at)
            if target := _link(name, at, walked, last=not todo):
                links += 1
                if links > _LINKS:
                    fail(f"{path} has more than {_LINKS} links", "Name the folder itself in .env.")
                todo += reversed(Path(os.path.normpath(walked / target)).parts[1:])
                at, walked = _instead(at, os.open("/", FOLDER)), Path("/")
                continue
            walked /= name
            at = _instead(at, _enter(name, at, walked))
        yield Folder(at, path)
    finally:
        os.close(at)


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


def _link(name: str, at: int, above: Path, *, last: bool) -> str:
    """The target of the link `name`, "" if it is none."""
    try:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        fail(f"{above / name} does not exist", "Check .env, and whether its disk is mounted.")
    if not stat.S_ISLNK(found.st_mode):
        return ""
    if last or found.st_uid != 0 or not only_root_changes(os.fstat(at)):
        fail(
            f"{above / name} is a link",
            "Name the folder itself in .env; a container could have made the link.",
        )
    return os.readlink(name, dir_fd=at)


def _enter(name: str, at: int, path: Path) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=at)
    except OSError as error:
        fail(f"{path} cannot be opened as a folder: {error.strerror}", "Name another folder in .env.")


class Folder(NamedTuple):
    """An open folder, with its path for messages."""

    handle: int
    path: Path

    def read(self, name: str, owners: Collection[int]) -> str:
        """The text of a file; "" if it is missing or empty. It must be a plain file with one name, of `owners`."""
        try:
            with opened(name, FILE, self.handle) as handle:
                check_file(os.fstat(handle), self.path / name, owners)
                data = os.read(handle, _LARGEST + 1)
        except FileNotFoundError:
            return ""
        except OSError as error:
            not_a_file(self.path / name, error)
        if len(data) > _LARGEST:
            fail(
                f"{self.path / name} is larger than {_LARGEST:,} bytes", "Remove what does not belong there."
            )
        try:
            return data.decode().rstrip("\n")
        except UnicodeDecodeError:
            fail(f"{self.path / name} is not UTF-8", "Write it in UTF-8.")

    def write(self, name: str, text: str) -> None:
        """Write a new file under a hidden name, for root alone, and rename it."""
        hidden = f".{name.lstrip('.')}.new"
        with suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=self.handle)
        with opened(hidden, NEW, self.handle) as handle:
            with os.fdopen(os.dup(handle), "w", encoding="utf-8") as file:
                file.write(text)
            os.fsync(handle)
        os.rename(hidden, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def give(self, name: str, owners: Collection[int], to: tuple[int, int], mode: int) -> None:
        """Give a file of `owners` to a user and a group, with `mode`."""
        try:
            with opened(name, FILE, self.handle) as handle:
                check_file(os.fstat(handle), self.path / name, owners)
                os.fchown(handle, *to)
                os.fchmod(handle, mode)
        except OSError as error:
            not_a_file(self.path / name, error)


def check_file(found: os.stat_result, shown: Path, owners: Collection[int]) -> None:
    if not stat.S_ISREG(found.st_mode):
        fail(f"{shown} is not a file", "Put the file itself there.")
    if found.st_nlink > 1:
        fail(f"{shown} has a second name, which could be any file's", "Replace it with a copy.")
    if found.st_uid not in owners:
        fail(f"{shown} belongs to user {found.st_uid}", f"If it is yours: chown root {shown}")


def not_a_file(shown: Path, error: OSError) -> NoReturn:
    fail(f"{shown} is a link, or cannot be read: {error.strerror}", "Put the file itself there.")


def give_all(folder: Folder, uid: int) -> None:
    """Give the files and folders below `folder` to a user. Links, sockets and devices stay as they are.

    FailedError for another user's file with a second name outside of `folder`: that name could be any file's. RefNet's own
    second names are all inside.
    """
    inside = Counter(_with_several_names(folder))

    def one(handle: int, path: Path, found: os.stat_result) -> None:
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_uid != uid
            and inside[found.st_dev, found.st_ino] != found.st_nlink
        ):
            check_file(found, path, {found.st_uid})
        if found.st_uid != uid:
            os.fchown(handle, uid, uid)

    _each(folder, one)


def _with_several_names(folder: Folder) -> list[tuple[int, int]]:
    """Device and inode of each name below `folder` whose file has others."""
    seen: list[tuple[int, int]] = []

    def one(_handle: int, _path: Path, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            seen.append((found.st_dev, found.st_ino))

    _each(folder, one)
    return seen


def _each(folder: Folder, act: Callable[[int, Path, os.stat_result], None], depth: int = 0) -> None:
    """Call `act` with the handle of each file below `folder`, and of each folder after its content."""
    if depth > _DEEPEST:
        fail(f"{folder.path} is deeper than what RefNet writes", "Remove what does not belong there.")
    for name in names(folder.handle):
        path = folder.path / name
        try:
            handle = os.open(name, FILE, dir_fd=folder.handle)
        except OSError:
            continue  # a link, a socket, or gone
        try:
            found = os.fstat(handle)
            if stat.S_ISDIR(found.st_mode):
                _each(Folder(handle, path), act, depth + 1)
            if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
                act(handle, path, found)
        finally:
            os.close(handle)


def publish(folder: Folder) -> None:
    """Let everybody read the files and folders below `folder`, which must be root's, and nobody else write them."""
    for name in names(folder.handle):
        path = folder.path / name
        try:
            handle = os.open(name, FILE, dir_fd=folder.handle)
        except OSError as error:
            not_a_file(path, error)
        try:
            publish_one(handle, path)
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                publish(Folder(handle, path))
        finally:
            os.close(handle)


def publish_one(handle: int, path: Path) -> None:
    """The same for one open file or folder."""
    found = os.fstat(handle)
    if found.st_uid != 0:
        fail(
            f"{path} does not belong to root: who owns it could run programs as root",
            f"Clone as root, or give it to root: chown -R root: {path}",
        )
    runs = stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_IXUSR
    os.fchmod(handle, 0o755 if runs else 0o644)
