"""Walks a folder by descriptors, so that no link is followed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from refnet.core.files import OPEN_FOLDER
from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.scope import EVERYTHING, ExcludedEntries, Scope

#: The most entries of a run, all of which its reader keeps in memory.
_RUN = 128
#: A second change within one clock tick leaves no trace. Ticks are 10 ms at most, on some file systems whole
#: seconds (FAT: two).
_TICK_NS = 50_000_000
COARSE_TICK_NS = 2_000_000_000


class WalkedEntry(NamedTuple):
    """An entry of the walked folder."""

    #: Its path from the walk's root.
    path: str
    #: Its name in the open folder `folder` (a descriptor).
    name: str
    folder: int
    #: None for what an archive cannot hold: FIFOs, sockets, devices.
    kind: FileKind | None
    #: Why a folder could not be read.
    error: OSError | None = None


class EntryRun(NamedTuple):
    """Consecutive entries of one folder, by name. Only the last can be a folder; its entries follow."""

    #: What precedes the names in the paths from the walk's root: "" or `folder/`.
    prefix: str
    #: The open folder of the names (a descriptor).
    folder: int
    names: list[str]
    #: The kinds of the entries of the folder that are not files.
    kinds: dict[str, FileKind | None]
    #: Why the folder that is the only name could not be read.
    error: OSError | None = None


class FolderState(NamedTuple):
    """A folder's status right before its names were read."""

    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    #: When it was read; not a part of the record.
    read_ns: int = 0

    @classmethod
    def of(cls, folder: int) -> FolderState:
        found = os.fstat(folder)
        return cls(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, time.time_ns())


#: Path → state, of the folders that were read.
FolderStates = dict[str, FolderState]


class _Level(NamedTuple):
    folder: int
    prefix: str
    kinds: dict[str, FileKind | None]
    runs: Iterator[list[str]]


def walk(
    root: int,
    scope: Scope = EVERYTHING,
    left_out: ExcludedEntries | None = None,
    states: FolderStates | None = None,
) -> Iterator[WalkedEntry]:
    """Yield everything that `runs` yields, entry by entry."""
    for prefix, folder, names, kinds, error in runs(root, scope, left_out, states):
        for name in names:
            yield WalkedEntry(prefix + name, name, folder, kinds.get(name, FileKind.FILE), error)


def runs(
    root: int,
    scope: Scope = EVERYTHING,
    left_out: ExcludedEntries | None = None,
    states: FolderStates | None = None,
) -> Iterator[EntryRun]:
    """Yield everything of `scope` below the open folder `root` (which stays open), a folder before its entries, by name.

    At the top, skip work folders of restores (`scope.own`). What the rules of `scope` leave out is counted in `left_out`. It makes
    no object of an entry but its name, as a million of them are compared with the last backup.

    states: receives the state of each folder; one that is in it under its path, unless it is `root`, is not read again.
    """
    reader = _Reader(scope, ExcludedEntries() if left_out is None else left_out, root, states)
    levels = [reader.top(root)]
    try:
        while levels:
            folder, prefix, kinds, parts = levels[-1]
            part = next(parts, None)
            if part is None:
                levels.pop()
                if folder != root:
                    os.close(folder)
                continue
            yield EntryRun(prefix, folder, part, kinds)
            last = part[-1]
            if kinds.get(last) is FileKind.FOLDER:
                try:
                    levels.extend(reader.level(folder, last, prefix))
                except OSError as error:
                    yield EntryRun(prefix, folder, [last], kinds, error)
    finally:
        for level in levels[1:]:
            os.close(level.folder)


def is_young(ctime_ns: int, now: int) -> bool:
    """Whether a change at `ctime_ns` is so recent that a further change until `now` could have the same time."""
    tick = _TICK_NS if ctime_ns % 1_000_000_000 else COARSE_TICK_NS
    return now - ctime_ns < tick


class Descent:
    """Opens folders below the open folder `root` one by one; the last one and its parents stay open."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[str, int]] = []

    def at(self, path: str) -> int:
        """Return a descriptor of the folder `path`, valid until the next call."""
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

    def close(self) -> None:
        """Close every folder except the root."""
        while self._open:
            os.close(self._open.pop()[1])


def changed_folders(root: int, states: FolderStates) -> tuple[list[str], list[str]]:
    """Folders of `states` that changed since they were read, and those that may have within a clock tick.

    Removed folders are dropped from `states`.
    """
    changed, young, descent = [], [], Descent(root)
    try:
        for path, before in list(states.items()):
            try:
                now = FolderState.of(descent.at(path))
            except OSError:  # it was moved or removed, or is closed by now
                del states[path]
                continue
            if now[:-1] != before[:-1]:
                changed.append(path)
            elif is_young(before.ctime_ns, before.read_ns):
                young.append(path)
    finally:
        descent.close()
    return changed, young


class _Reader:
    """Reads folders without excluded entries."""

    def __init__(
        self, scope: Scope, left_out: ExcludedEntries, root: int, states: FolderStates | None
    ) -> None:
        self._only = scope.only
        self._prefix = scope.prefix
        self._own = () if scope.prefix else scope.own
        self._states = states
        self._device = os.fstat(root).st_dev if scope.one_file_system else None
        self._leaves_out = scope.leaves_out
        self._left_out = left_out

    def top(self, root: int) -> _Level:
        if self._states is not None:
            self._states[self._prefix.rstrip("/") or "."] = FolderState.of(root)
        names, kinds = _read(root)
        names = [name for name in names if name not in self._own]
        if self._only is None:
            names = self._kept(names, kinds, root, "")
        else:
            names = [name for name in names if name in self._only]
        return _Level(root, "", kinds, _split(names, kinds))

    def level(self, folder: int, name: str, prefix: str) -> Iterator[_Level]:
        """Yield the folder `name` of the open `folder`; nothing if it is on another file system. OSError if it cannot be read."""
        descriptor = os.open(name, OPEN_FOLDER, dir_fd=folder)
        try:
            if self._device is not None and os.fstat(descriptor).st_dev != self._device:
                self._left_out.mounts.append(prefix + name)
                os.close(descriptor)
                return
            if self._states is not None and not self._is_new(f"{self._prefix}{prefix}{name}", descriptor):
                os.close(descriptor)
                return
            names, kinds = _read(descriptor)
            prefix = f"{prefix}{name}/"
            names = self._kept(names, kinds, descriptor, prefix)
        except OSError:
            os.close(descriptor)
            raise
        yield _Level(descriptor, prefix, kinds, _split(names, kinds))

    def _is_new(self, path: str, folder: int) -> bool:
        """Record the state of an open folder; False if it was already read under this path."""
        states = self._states or {}
        state, before = FolderState.of(folder), states.get(path)
        if before and before[:2] == state[:2]:
            return False
        states[path] = state
        return True

    def _kept(
        self, names: list[str], kinds: dict[str, FileKind | None], folder: int, prefix: str
    ) -> list[str]:
        """Names in the open `folder` that no rule excludes; the others are counted."""
        leaves_out = self._leaves_out
        if leaves_out is None:
            return names
        kept = []
        for name in names:
            kind, path = kinds.get(name, FileKind.FILE), prefix + name
            if not leaves_out(f"{path}/" if kind is FileKind.FOLDER else path):
                kept.append(name)
            elif kind is FileKind.FOLDER:
                self._left_out.add(path, None)
            else:
                self._left_out.add(path, _size(name, folder) if kind is FileKind.FILE else 0)
        return kept


def _size(name: str, folder: int) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except OSError:
        return 0


def _read(folder: int) -> tuple[list[str], dict[str, FileKind | None]]:
    """Sorted names in the open `folder`, and the kinds of entries that are not files."""
    names: list[str] = []
    kinds: dict[str, FileKind | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if not entry.is_file(follow_symlinks=False):
                kinds[entry.name] = _kind(entry)
    names.sort()
    return names, kinds


def _kind(entry: os.DirEntry[str]) -> FileKind | None:
    if entry.is_symlink():
        return FileKind.LINK
    return FileKind.FOLDER if entry.is_dir(follow_symlinks=False) else None


def _split(names: list[str], kinds: dict[str, FileKind | None]) -> Iterator[list[str]]:
    """Split `names` after each folder."""
    ends = (
        [end for end, name in enumerate(names, 1) if name in kinds and kinds[name] is FileKind.FOLDER]
        if kinds
        else []
    )
    start = 0
    for end in (*ends, len(names)):
        while start < end:
            yield names[start : min(start + _RUN, end)]
            start = min(start + _RUN, end)
