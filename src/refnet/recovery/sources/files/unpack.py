"""Unpack an archive into an empty folder, by folder descriptors that follow no link."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from refnet.files import NEW_FILE, OPEN_FILE, OPEN_FOLDER, empty_tree, names_in, opened, write_all
from refnet.locks import take
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.model.source import Progress, silent
from refnet.recovery.sources.files.contents import limits, read_archive
from refnet.recovery.sources.files.listing import FileList, Listed
from refnet.recovery.sources.files.member_names import ArchiveError, parent, show

#: Returns the owner (uid, gid) for a member.
Owner = Callable[[Listed], tuple[int, int]]

_SCRATCH = f"{HIDDEN_PREFIX}files-"


def recorded(member: Listed) -> tuple[int, int]:
    """Return the owner that the archive records."""
    return member.uid, member.gid


class NamesMergeError(ArchiveError):
    """Two members have the same name on the file system that they are unpacked to."""


def unpack(
    archive: BinaryIO,
    root: int,
    expected: FileList | None,
    *,
    owner: Owner | None = None,
    progress: Progress = silent,
) -> FileList:
    """Unpack `archive` into the empty open folder `root`; return the list of files.

    Args:
        owner: returns the owner for each member; None: that of the process.

    ArchiveError names the first member that is damaged, not allowed or not as `expected`; OSError if the disk is
    full. Both leave `root` half filled, for the caller to remove.
    """
    fresh, most = FreshFolder(root, owner), limits(expected, shutil.disk_usage(root).free)
    try:
        files = read_archive(archive, fresh, expected=expected, limits=most, progress=progress)
        fresh.finish()
    finally:
        fresh.close()
    return files


@contextmanager
def scratch_folder(below: Path) -> Iterator[int]:
    """Create a private folder in `below`, open it, and remove it afterwards.

    Leftovers of killed proofs are removed first: folders of this user that no process locks.
    """
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened(below, OPEN_FOLDER & ~os.O_NOFOLLOW) as parent_folder:
        for name in names_in(parent_folder):
            if name.startswith(_SCRATCH):
                _remove_leftover(name, parent_folder)
        name = f"{_SCRATCH}{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=parent_folder)
        with opened(name, OPEN_FOLDER, parent_folder) as root:
            take(root, shared=True, seconds=None)
            try:
                yield root
            finally:
                empty_tree(root)
                os.rmdir(name, dir_fd=parent_folder)


def _remove_leftover(name: str, parent_folder: int) -> None:
    try:
        with opened(name, OPEN_FOLDER, parent_folder) as root:
            if os.fstat(root).st_uid == os.geteuid() and take(root):
                empty_tree(root)
                os.rmdir(name, dir_fd=parent_folder)
    except FileNotFoundError:
        return  # another proof removed it
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:  # a link or a file is not ours
            raise


class FreshFolder:
    """A sink that creates every member in the empty folder `root` (a descriptor); `finish` completes it.

    Links are created last, so that nothing is written through one; folders get their modes last, so that a folder
    without write permission can be filled. Two names that are the same on this file system are refused.
    """

    def __init__(self, root: int, owner: Owner | None) -> None:
        self._root = root
        self._owner = owner
        self._folders: dict[str, Listed] = {}
        self._links: list[Listed] = []
        self._files: set[str] = set()
        self._open: list[tuple[str, int]] = []

    def folder(self, member: Listed) -> None:
        if member.path not in self._folders and member.path != ".":
            try:
                os.mkdir(_name(member.path), 0o700, dir_fd=self._folder(parent(member.path)))
            except FileExistsError:
                raise _merge(member.path) from None
        self._folders[member.path] = member

    def file(self, member: Listed, content: Iterable[bytes]) -> None:
        above, _, name = member.path.rpartition("/")
        folder = self._folder(above or ".")
        if member.path in self._files:
            os.unlink(name, dir_fd=folder)
        try:
            descriptor = os.open(name, NEW_FILE, 0o600, dir_fd=folder)
        except FileExistsError:
            raise _merge(member.path) from None
        try:
            for block in self._copied(member.same_as) if member.same_as else content:
                write_all(descriptor, block)
            self._set_attributes(descriptor, member)
        finally:
            os.close(descriptor)
        self._files.add(member.path)

    def link(self, member: Listed) -> None:
        self._links.append(member)

    def finish(self) -> None:
        """Create the links, then set owners, modes and times of the folders, the deepest first."""
        for member in self._links:
            folder, name = self._folder(parent(member.path)), _name(member.path)
            try:
                os.symlink(member.target, name, dir_fd=folder)
            except FileExistsError:
                raise _merge(member.path) from None
            if self._owner:
                os.chown(name, *self._owner(member), dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=folder, follow_symlinks=False)
        for path in sorted(self._folders, key=lambda path: (-path.count("/"), path == ".", path)):
            member = self._folders[path]
            self._set_attributes(self._folder(path), member)
        self.close()

    def close(self) -> None:
        """Close every folder except the root."""
        while self._open:
            os.close(self._open.pop()[1])

    def _set_attributes(self, descriptor: int, member: Listed) -> None:
        if self._owner:
            os.fchown(descriptor, *self._owner(member))
        os.fchmod(descriptor, member.mode)
        os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))

    def _folder(self, path: str) -> int:
        """Return a descriptor of the folder `path`; the last one and its parents stay open."""
        if self._open and self._open[-1][0] == path:
            return self._open[-1][1]
        while self._open and not path.startswith(f"{self._open[-1][0]}/"):
            if self._open[-1][0] == path:
                return self._open[-1][1]
            os.close(self._open.pop()[1])
        if path == ".":
            return self._root
        begun = self._open[-1][0] if self._open else ""
        folder = self._open[-1][1] if self._open else self._root
        for part in path[len(begun) :].lstrip("/").split("/"):
            folder = os.open(part, OPEN_FOLDER, dir_fd=folder)
            begun = f"{begun}/{part}" if begun else part
            self._open.append((begun, folder))
        return folder

    def _copied(self, path: str) -> Iterator[bytes]:
        descriptor = os.open(path, OPEN_FILE, dir_fd=self._root)
        try:
            while block := os.read(descriptor, 1 << 20):
                yield block
        finally:
            os.close(descriptor)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _merge(path: str) -> NamesMergeError:
    return NamesMergeError(
        f"{show(path)} has the same name as another member on this file system "
        "(the names differ only in case or Unicode form)"
    )
