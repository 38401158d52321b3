"""Walk a folder by folder descriptors, so that no link on the way is followed."""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from refnet.files import OPEN_FOLDER
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.sources.files.listing import Kind

#: The most entries of a run, all of which its reader keeps in memory.
_RUN = 1000


class Found(NamedTuple):
    """An entry of the walked folder."""

    #: Its path from the walk's root.
    path: str
    #: Its name in the open folder `folder` (a descriptor).
    name: str
    folder: int
    #: None for what an archive cannot hold: FIFOs, sockets, devices.
    kind: Kind | None
    #: Why a folder could not be read.
    error: OSError | None = None


class Run(NamedTuple):
    """Neighbouring entries of one folder, by name. Only the last one can be a folder; its entries come next."""

    #: What precedes the names in the paths from the walk's root: "" or `folder/`.
    prefix: str
    #: The open folder of the names (a descriptor).
    folder: int
    names: list[str]
    #: The kinds of the entries of the folder that are not files.
    kinds: dict[str, Kind | None]
    #: Why the folder that is the only name could not be read.
    error: OSError | None = None


class _Level(NamedTuple):
    folder: int
    prefix: str
    kinds: dict[str, Kind | None]
    runs: Iterator[list[str]]


def walk(root: int, only: Collection[str] | None = None) -> Iterator[Found]:
    """Yield everything that `runs` yields, entry by entry."""
    for prefix, folder, names, kinds, error in runs(root, only):
        for name in names:
            yield Found(prefix + name, name, folder, kinds.get(name, Kind.FILE), error)


def runs(root: int, only: Collection[str] | None = None) -> Iterator[Run]:
    """Yield everything below the open folder `root` (which stays open), a folder before its entries, by name.

    At the top, skip RefNet's own hidden entries, and every entry that is not in `only` where that is given. It makes no
    object of an entry but its name, as a million of them are compared with the last backup.
    """
    names, kinds = _read(root)
    top = [name for name in names if not name.startswith(HIDDEN_PREFIX) and (only is None or name in only)]
    levels = [_Level(root, "", kinds, _split(top, kinds))]
    try:
        while levels:
            folder, prefix, kinds, parts = levels[-1]
            part = next(parts, None)
            if part is None:
                levels.pop()
                if folder != root:
                    os.close(folder)
                continue
            yield Run(prefix, folder, part, kinds)
            last = part[-1]
            if kinds.get(last) is Kind.FOLDER:
                try:
                    levels.append(_level(folder, last, prefix))
                except OSError as error:
                    yield Run(prefix, folder, [last], kinds, error)
    finally:
        for level in levels[1:]:
            os.close(level.folder)


def _level(folder: int, name: str, prefix: str) -> _Level:
    descriptor = os.open(name, OPEN_FOLDER, dir_fd=folder)
    try:
        names, kinds = _read(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return _Level(descriptor, f"{prefix}{name}/", kinds, _split(names, kinds))


def _read(folder: int) -> tuple[list[str], dict[str, Kind | None]]:
    """Return the sorted names in the open `folder`, and the kinds of those that are not files."""
    names: list[str] = []
    kinds: dict[str, Kind | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if not entry.is_file(follow_symlinks=False):
                kinds[entry.name] = _kind(entry)
    names.sort()
    return names, kinds


def _kind(entry: os.DirEntry[str]) -> Kind | None:
    if entry.is_symlink():
        return Kind.LINK
    return Kind.FOLDER if entry.is_dir(follow_symlinks=False) else None


def _split(names: list[str], kinds: dict[str, Kind | None]) -> Iterator[list[str]]:
    """Yield `names` in parts that end behind each folder."""
    ends = (
        [end for end, name in enumerate(names, 1) if name in kinds and kinds[name] is Kind.FOLDER]
        if kinds
        else []
    )
    start = 0
    for end in (*ends, len(names)):
        while start < end:
            yield names[start : min(start + _RUN, end)]
            start = min(start + _RUN, end)
