"""Walks a folder by folder descriptors, so that nothing on the way is followed that is a link."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from refnet.files import OPEN_FOLDER
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.sources.files.listing import Kind


class Found(NamedTuple):
    """An entry: its path from the walk's root, its name in the open folder `folder` (a descriptor).

    `kind` is None for what no archive holds: FIFOs, sockets, devices. `error` stands for a folder that could
    not be read.
    """

    path: str
    name: str
    folder: int
    kind: Kind | None
    error: OSError | None = None


class _Level(NamedTuple):
    folder: int
    prefix: str
    entries: Iterator[os.DirEntry[str]]


def walk(root: int, only: Collection[str] | None = None) -> Iterator[Found]:
    """Everything below the open folder `root` (which stays open), a folder before what it holds, by name.

    At the top, RefNet's own hidden entries are passed over, and all that `only` does not name where it is given.
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
