"""Fills a new folder by descriptors that follow no link: with an archive, and with excluded entries of the live one."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from refnet.catalog.artifact import Progress, silent
from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core import attributes
from refnet.core.attributes import NONE, Attributes, inherit_nothing, set_acls, set_user
from refnet.core.files import NEW_FILE, OPEN_FILE, OPEN_FOLDER, empty_tree, names_in, opened, write_all
from refnet.core.locks import take
from refnet.core.member_names import MAX_DEPTH, ArchiveError, parent, show
from refnet.sources.folder.archive_reader import limits, read_archive
from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.sources.folder.scope import Aspect, Unheld
from refnet.sources.folder.walk import Descent

#: A file system in memory, on every Linux.
_SHARED = Path("/dev/shm")  # noqa: S108  # only in a folder of its own
_SCRATCH = f"{HIDDEN_PREFIX}files-"
#: What an ordinary user needs to compare its own files: a mode without it is not set, and named.
_READABLE = {FileKind.FILE: 0o400, FileKind.FOLDER: 0o500}
#: Zeros at the ends of pieces of a sparse file become holes.
_PIECE = 64 << 10
_ZEROS = bytes(_PIECE)
#: The most bytes of different ACLs of folders, which stay in memory.
_MOST_ACLS = 64 << 20


class NamesMergeError(ArchiveError):
    """Two members have the same name on the file system that they are unpacked to."""


def unpack(
    archive: BinaryIO,
    root: int,
    expected: FileList | None,
    *,
    unheld: Unheld | None = None,
    most: int | None = None,
    progress: Progress = silent,
) -> FileList:
    """Unpack `archive` into the empty open folder `root`, as this user's; return the list of files.

    Args:
        unheld: receives metadata that the file system cannot store.
        most: bytes that the members may have, copies that a later one replaces too; None: as many as are free.

    ArchiveError names the first member that is damaged, forbidden or unlike `expected`; OSError if the disk is full.
    Both leave `root` incomplete, for the caller to remove.
    """
    fresh, free = FreshFolder(root, unheld=unheld), shutil.disk_usage(root).free
    space = free if most is None else min(free, most)
    try:
        files = read_archive(
            archive, fresh, expected=expected, limits=limits(expected, space), progress=progress
        )
        fresh.finish()
    finally:
        fresh.close()
    return files


@contextmanager
def scratch_folder(below: Path) -> Iterator[int]:
    """Create a private folder in `below`, open it, and remove it afterwards.

    Leftovers of killed proofs are removed first: unlocked folders of this user.
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


def memory_folder(least: int) -> Path | None:
    """Return this user's folder in /dev/shm, if that is memory with `least` free bytes; None otherwise.

    The folder stays: were it removed after a proof, another user could put a link in its place for the next one.
    """
    place = _SHARED / f"refnet-{os.geteuid()}"
    with suppress(OSError):  # it may be read-only
        if not _is_memory(_SHARED) or shutil.disk_usage(_SHARED).free < least:
            return None
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
            return place
    return None


def _is_memory(folder: Path) -> bool:
    """Whether `folder` is a tmpfs in which nobody removes the entries of another user."""
    with suppress(OSError):
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        kinds = [line.split()[2] for line in lines if line.split()[1] == str(folder)]
        found = folder.lstat()
        return kinds[-1:] == ["tmpfs"] and found.st_uid == 0 and bool(found.st_mode & stat.S_ISVTX)
    return False


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
    without write permission can be filled. No member gets the ACL of a folder that it is created in. Two names that are
    the same on this file system are refused.
    """

    def __init__(self, root: int, *, owners: bool = False, unheld: Unheld | None = None) -> None:
        """Create members in `root`. `owners`: give each its owner, as far as this user may."""
        self._root = root
        self._owners = owners
        self._is_root = os.geteuid() == 0
        self._groups = {os.getegid(), *os.getgroups()}
        self.unheld = Unheld() if unheld is None else unheld
        self._acls: dict[Attributes, Attributes] = {}
        self._acl_bytes = 0
        inherit_nothing(root)
        self._folders: dict[str, Listed] = {}
        self._links: list[Listed] = []
        self._files: set[str] = set()
        self._descent = Descent(root)
        self._folder = self._descent.at

    def folder(self, member: Listed) -> None:
        if member.path not in self._folders and member.path != ".":
            try:
                os.mkdir(_name(member.path), 0o700, dir_fd=self._folder(parent(member.path)))
            except FileExistsError:
                raise _merge(member.path) from None
        if member.kept is not NONE:
            if not set_user(self._folder(member.path), member.kept):
                self.unheld.add(Aspect.XATTRS, member.path)
            member = member._replace(kept=self._known(member.kept._replace(user=())))
        self._folders[member.path] = member

    def _known(self, kept: Attributes) -> Attributes:
        """Equal ACLs of an earlier folder, to share memory until `finish`."""
        known = self._acls.setdefault(kept, kept)
        if known is kept:
            self._acl_bytes += len(kept.access) + len(kept.default)
        if self._acl_bytes > _MOST_ACLS:
            raise ArchiveError(f"the ACLs of its folders are longer than {_MOST_ACLS} bytes")
        return known

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
            if member.same_as:
                member = member._replace(kept=self._shared(member))
            blocks = self._copied(member.same_as) if member.same_as else content
            for block in _without_zeros(descriptor, member.size, blocks) if member.sparse else blocks:
                write_all(descriptor, block)
            if member.kept is not NONE and not set_user(descriptor, member.kept):
                self.unheld.add(Aspect.XATTRS, member.path)
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
            if self._owners:
                with _refused():
                    os.chown(name, *self._owner(member), dir_fd=folder, follow_symlinks=False)
            with _refused():
                os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=folder, follow_symlinks=False)
            self._look(member, os.stat(name, dir_fd=folder, follow_symlinks=False))
        for path in sorted(self._folders, key=lambda path: (-path.count("/"), path == ".", path)):
            member = self._folders[path]
            self._set_attributes(self._folder(path), member)
        self.close()

    def close(self) -> None:
        """Close every folder except the root."""
        self._descent.close()

    def _set_attributes(self, descriptor: int, member: Listed) -> None:
        if self._owners:
            with _refused():
                os.fchown(descriptor, *self._owner(member))
        mode = member.mode if self._is_root else member.mode | _READABLE[member.kind]
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            _check_refused(error)
        try:
            os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
        except OSError as error:
            _check_refused(error)
        self._look(member, os.fstat(descriptor))
        kept = member.kept
        has_acl = kept is not NONE and (kept.access or kept.default or kept.unnumbered)
        if has_acl and (mode != member.mode or not set_acls(descriptor, kept)):
            self.unheld.add(Aspect.ACL, member.path)

    def _owner(self, member: Listed) -> tuple[int, int]:
        """Owner that this user may set: another user only as root, a group only as its member."""
        if self._is_root:
            return member.uid, member.gid
        return -1, member.gid if member.gid in self._groups else -1

    def _look(self, member: Listed, status: os.stat_result) -> None:
        """Record metadata of `member` that could not be set."""
        if self._owners and (status.st_uid, status.st_gid) != (member.uid, member.gid):
            self.unheld.add(Aspect.OWNER, member.path)
        if status.st_mtime_ns != member.mtime_ns:
            self.unheld.add(Aspect.TIME, member.path)
        if member.kind is not FileKind.LINK and status.st_mode & 0o7777 != member.mode:
            self.unheld.add(Aspect.MODE, member.path)

    def _shared(self, member: Listed) -> Attributes:
        """Attributes of the file that the hard link `member` refers to, as far as they could be set."""
        for aspect in (Aspect.ACL, Aspect.XATTRS):
            if (aspect, member.same_as) in self.unheld.paths:
                self.unheld.add(aspect, member.path)
        with opened(member.same_as, OPEN_FILE, self._root) as first:
            return attributes.read(first)[0]

    def _copied(self, path: str) -> Iterator[bytes]:
        descriptor = os.open(path, OPEN_FILE, dir_fd=self._root)
        try:
            while block := os.read(descriptor, 1 << 20):
                yield block
        finally:
            os.close(descriptor)


def _without_zeros(descriptor: int, size: int, content: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `content`, to be written to the file `descriptor`, without zeros, which become holes; `size`: its bytes."""
    for block in content:
        for start in range(0, len(block), _PIECE):
            piece = block[start : start + _PIECE]
            after = (
                b"" if piece == _ZEROS else piece.lstrip(b"\0")
            )  # a comparison takes a hundredth of the time
            data = after.rstrip(b"\0")
            os.lseek(descriptor, len(piece) - len(after), os.SEEK_CUR)
            yield data
            os.lseek(descriptor, len(after) - len(data), os.SEEK_CUR)
    os.ftruncate(descriptor, size)


@contextmanager
def _refused() -> Iterator[None]:
    """Ignore values that the file system cannot store or this user may not set: `_look` reports them."""
    try:
        yield
    except OSError as error:
        _check_refused(error)


def _check_refused(error: OSError) -> None:
    if error.errno not in {errno.EPERM, errno.EINVAL, errno.EOVERFLOW, errno.ENOTSUP, errno.ENOSYS}:
        raise error


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _merge(path: str) -> NamesMergeError:
    return NamesMergeError(
        f"{show(path)} has the same name as another member on this file system "
        "(the names differ only in case or Unicode form)"
    )


def carry_over(live: int, fresh: int, paths: Iterable[str]) -> None:
    """Link the entries `paths` of the open folder `live` into `fresh`, at the same paths; OSError if that fails.

    So a swap does not remove them. Files become hard links in both versions, without using space; folders are recreated.
    """
    for path in paths:
        with suppress(FileNotFoundError):  # it is gone since it was found
            _carry(path.split("/"), live, fresh, 0)


def _carry(parts: list[str], live: int, fresh: int, depth: int) -> None:
    name, *below = parts
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    if not below and not stat.S_ISDIR(os.stat(name, dir_fd=live, follow_symlinks=False).st_mode):
        with _unchanged_time(fresh):
            os.link(name, name, src_dir_fd=live, dst_dir_fd=fresh, follow_symlinks=False)
        return
    with opened(name, OPEN_FOLDER, live) as source, _folder(name, source, fresh) as target:
        for inner in [below] if below else ([one] for one in names_in(source)):
            with suppress(FileNotFoundError):
                _carry(inner, source, target, depth + 1)


@contextmanager
def _folder(name: str, live: int, fresh: int) -> Iterator[int]:
    """Open the folder `name` of the open `fresh`; if it is new, it becomes like the open `live`."""
    try:
        with _unchanged_time(fresh):
            os.mkdir(name, 0o700, dir_fd=fresh)
    except FileExistsError:
        new = False
    else:
        new = True
    with opened(name, OPEN_FOLDER, fresh) as handle:
        yield handle
        if new:
            attributes.copy(live, handle)
            found = os.fstat(live)
            os.utime(handle, ns=(found.st_atime_ns, found.st_mtime_ns))


@contextmanager
def _unchanged_time(folder: int) -> Iterator[None]:
    """Give the open `folder` the times that it has now, after the block."""
    before = os.fstat(folder)
    yield
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
