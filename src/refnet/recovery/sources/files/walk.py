"""Walk a folder by folder descriptors, so that no link on the way is followed."""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from refnet.files import OPEN_FOLDER
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.sources.files.listing import Kind


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


class _Level(NamedTuple):
    folder: int
    prefix: str
    entries: Iterator[os.DirEntry[str]]


def walk(root: int, only: Collection[str] | None = None) -> Iterator[Found]:
    """Yield everything below the open folder `root` (which stays open), a folder before its entries, by name.

    At the top, skip RefNet's own hidden entries, and every entry that is not in `only` where that is given.
    """
    top = [
        entry
        for entry in _sorted(root)
        if not entry.name.startswith(HIDDEN_PREFIX) and (only is None or entry.name in only)
    ]
    levels = [_Level(root, "", iter(top))]
    try:
        while levels:
            folder, prefix, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                if folder != root:
                    os.close(folder)
                continue
            kind = _kind(entry)
            path = prefix + entry.name
            yield Found(path, entry.name, folder, kind)
            if kind is Kind.FOLDER:
                try:
                    levels.append(_level(folder, entry.name, path))
                except OSError as error:
                    yield Found(path, entry.name, folder, kind, error)
    finally:
        for level in levels[1:]:
            os.close(level.folder)


def _level(folder: int, name: str, path: str) -> _Level:
    descriptor = os.open(name, OPEN_FOLDER, dir_fd=folder)
    try:
        return _Level(descriptor, f"{path}/", iter(_sorted(descriptor)))
    except OSError:
        os.close(descriptor)
        raise


def _sorted(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str]) -> Kind | None:
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    if entry.is_symlink():
        return Kind.LINK
    return Kind.FOLDER if entry.is_dir(follow_symlinks=False) else None
