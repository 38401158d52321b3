"""Looks at a folder a second time, after its archive was written: does the list of files match it?

Independent of the first look: it walks by the standard library instead of the archive's code, so faults there are
detected. Names missing from the list are unsettled if the folder changed between the two walks.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from xxhash import xxh3_128

from refnet.core.files import OPEN_FILE, fetch_again
from refnet.core.member_names import leads_inside, parent, show
from refnet.sources.folder.archive_writer import Dumped
from refnet.sources.folder.listing import FileKind, Listed
from refnet.sources.folder.scope import Scope
from refnet.sources.folder.tree import stamp
from refnet.sources.folder.walk import FolderState, FolderStates, changed_folders

_BLOCK = 1 << 20
#: How many files the disk is asked for at once, and for how many bytes of each.
_AT_ONCE, _FETCHED = 64, 1 << 20
_KINDS = {stat.S_IFREG: FileKind.FILE, stat.S_IFDIR: FileKind.FOLDER, stat.S_IFLNK: FileKind.LINK}


class _Entry(NamedTuple):
    path: str
    #: Its name in the open folder.
    name: str
    folder: int
    kind: FileKind
    status: os.stat_result


@dataclass
class SecondLook:
    """The result of a second look."""

    #: Over path, kind, size and time of everything.
    digest: str = ""
    #: A sentence for each entry that did not change meanwhile, and is not as the list says.
    wrong: list[str] = field(default_factory=list)
    #: The paths that are not in the list, in folders that changed meanwhile.
    unsettled: list[str] = field(default_factory=list)


def entries_digest(root: int, scope: Scope) -> str:
    """Digest of a second look at `scope` of the open folder `root`; OSError if unreadable."""
    digest = xxh3_128()
    for entry in _entries(root, scope):
        digest.update(_record(entry))
    return digest.hexdigest()


def look(root: int, scope: Scope, dumped: Dumped, *, contents: bool) -> SecondLook:
    """Compare `scope` of the open folder `root` with the written archive; OSError if unreadable.

    contents: read every file again, and compare its SHA-256.
    """
    found, digest, files = SecondLook(), xxh3_128(), dumped.files.files
    numbers = {listed.path: number for number, listed in enumerate(files)}
    there = bytearray(len(files))
    with closing(_Rereader()) as again:
        for entry in _entries(root, scope):
            digest.update(_record(entry))
            number = numbers.get(entry.path)
            if number is None:
                if parent(entry.path) in numbers or "/" not in entry.path:
                    _missing(entry, dumped.states, found)
                continue
            there[number] = 1
            if dumped.stamps[number] == stamp(entry.status):
                if why := _differs(entry, files[number]):
                    found.wrong.append(f"{show(entry.path)} {why}")
                elif contents and entry.kind is FileKind.FILE:
                    again.add(entry, files[number].sha256)
        again.finish()
    found.wrong += (f"{show(path)} has different content in the list" for path in again.differing)
    lost = [listed.path for listed, is_there in zip(files, there, strict=True) if not is_there]
    found.wrong += _invented(root, [path for path in lost if path != "."], dumped.states)
    found.digest = digest.hexdigest()
    return found


def _entries(root: int, scope: Scope) -> Iterator[_Entry]:
    """Yield the entries that an archive of `scope` of the open folder `root` should contain, by name."""
    leaves_out, only = scope.leaves_out, scope.only
    device = os.fstat(root).st_dev if scope.one_file_system else None
    for top, folders, others, handle in os.fwalk(".", dir_fd=root, onerror=_unreadable):
        prefix, below = top[2:] + "/" if top != "." else "", list[str]()
        for name in sorted((*folders, *others)):
            if not prefix and (name in scope.own or (only is not None and name not in only)):
                continue
            entry = _entry(prefix, name, handle)
            if entry is None:
                continue
            folder = entry.kind is FileKind.FOLDER
            if leaves_out and (prefix or only is None) and leaves_out(entry.path + "/" * folder):
                continue
            if folder and device in (None, entry.status.st_dev):
                below.append(name)
            yield entry
        folders[:] = below


def _entry(prefix: str, name: str, folder: int) -> _Entry | None:
    """An entry of an open folder; None if archives do not store its kind, or it is gone."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is FileKind.LINK and not leads_inside(prefix + name, os.readlink(name, dir_fd=folder)):
            return None
    except FileNotFoundError:
        return None
    return _Entry(prefix + name, name, folder, kind, status) if kind else None


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _record(entry: _Entry) -> bytes:
    is_folder, status = entry.kind is FileKind.FOLDER, entry.status
    size, time = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return b"%b\0%b %d %d\0" % (os.fsencode(entry.path), entry.kind.encode(), size, time)


def _missing(entry: _Entry, states: FolderStates, found: SecondLook) -> None:
    """Record an entry missing from the list: a fault if its folder is unchanged since it was read."""
    state = states.get(parent(entry.path))
    if state is None or state[:-1] == FolderState.of(entry.folder)[:-1]:
        found.wrong.append(f"{show(entry.path)} is not in the list")
    else:
        found.unsettled.append(entry.path)


def _invented(root: int, lost: list[str], states: FolderStates) -> Iterator[str]:
    """Sentences about listed paths that are not in their folder, although that did not change."""
    changed = {*changed_folders(root, states)[0]} if lost else set()
    for path in lost:
        above = parent(path)
        if above in states and above not in changed:
            yield f"{show(path)} is in the list, but not in the folder"


def _differs(entry: _Entry, listed: Listed) -> str:
    """Return what the list has wrong of an entry, apart from its content; "" if nothing."""
    status = entry.status
    if listed.kind is not entry.kind:
        return f"is a {listed.kind} in the list, but a {entry.kind} in the folder"
    if listed.kind is FileKind.FILE and listed.size != status.st_size:
        return f"has {listed.size:,} bytes in the list, but {status.st_size:,} in the folder"
    return "" if listed.mtime_ns == status.st_mtime_ns else "has a different time in the list"


class _Rereader:
    """Reads files again, from the disk, and compares their SHA-256.

    The files to come are opened and asked for meanwhile: a disk needs longer for one small file than all the rest, and
    for many at once hardly more.
    """

    def __init__(self) -> None:
        #: The paths of those with another digest.
        self.differing: list[str] = []
        self._asked: deque[tuple[int, _Entry, str]] = deque()
        self._buffer = memoryview(bytearray(_BLOCK))

    def add(self, entry: _Entry, expected: str) -> None:
        """Read `entry` again, soon, while its folder may be closed already; `expected`: its digest."""
        try:
            handle = os.open(entry.name, OPEN_FILE, dir_fd=entry.folder)
        except FileNotFoundError:
            return
        self._asked.append((handle, entry, expected))
        fetch_again(handle, _FETCHED)
        if len(self._asked) > _AT_ONCE:
            self._read()

    def finish(self) -> None:
        while self._asked:
            self._read()

    def close(self) -> None:
        while self._asked:
            os.close(self._asked.popleft()[0])

    def _read(self) -> None:
        handle, entry, expected = self._asked.popleft()
        try:
            if _sha256(handle, entry.status, self._buffer) not in (expected, None):
                self.differing.append(entry.path)
        finally:
            os.close(handle)


def _sha256(handle: int, status: os.stat_result, buffer: memoryview) -> str | None:
    """Return the digest of an open file; None if its status is not `status` any more."""
    digest, size = sha256(), 0
    while count := os.readv(handle, [buffer]):
        digest.update(buffer[:count])
        size += count
        if size == status.st_size and count < len(buffer):
            break  # its end
    return digest.hexdigest() if stamp(os.fstat(handle)) == stamp(status) else None
