"""The index of a timeline in an archive of WAL, and which of its segments are there; read again only if something changed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from refnet.catalog import wal
from refnet.catalog.wal import PARTIAL, IndexLine, Segment
from refnet.core.files import explained, read_regular

#: The name of an index.
INDEX = "index.jsonl"
#: The largest index that is read, in bytes: a million segments, 16 TiB of WAL. And the shortest line that names one.
_LONGEST, _SHORTEST = 256 << 20, 110
#: A folder that changed later than this, in nanoseconds, is read again: its time may not show the next change.
_SETTLED = 2_000_000_000
#: Size, mtime (ns) and inode of an index; None: there is none.
Stamp = tuple[int, int, int] | None


def lines_in(folder: Path) -> Mapping[str, IndexLine]:
    """Lines of the index in `folder`, of a timeline, by name; one that is malformed, as after a crash, does not count."""
    return _lines(folder, _stamp(folder))


def _stamp(folder: Path) -> Stamp:
    with explained(folder / INDEX):
        try:
            found = (folder / INDEX).stat()
        except FileNotFoundError:
            return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=8)
def _lines(folder: Path, stamp: Stamp) -> Mapping[str, IndexLine]:
    """As `lines_in`, as long as the index has that stamp."""
    found = dict[str, IndexLine]()
    if stamp is None:
        return found
    with explained(folder / INDEX):
        text = read_regular(folder / INDEX, _LONGEST)
    for line in io.BytesIO(text):
        if len(line) < _SHORTEST:  # millions of them would take hours to refuse
            continue
        with suppress(ValueError):
            one = IndexLine.from_json(line)
            if one.name.startswith(folder.name):
                found[one.name] = one
    return found


def segments_in(folder: Path, size: int) -> tuple[Segment, ...]:
    """Segments in `folder`, in order: those with a line in the index, and a file of the size that it says.

    size: bytes of a segment.
    """
    with explained(folder):
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
    if time.time_ns() - changed < _SETTLED:
        return _there.__wrapped__(folder, size, changed, _stamp(folder))
    return _there(folder, size, changed, _stamp(folder))


@lru_cache(maxsize=8)
def _there(folder: Path, size: int, _changed: int, stamp: Stamp) -> tuple[Segment, ...]:
    """As `segments_in`, as long as the folder was not changed, and the index is the same."""
    sizes, found = sizes_in(folder), list[Segment]()
    for line in _lines(folder, stamp).values():
        name = line.name.removesuffix(PARTIAL)
        if sizes.get(f"{line.name}.gz") != line.size:
            continue
        with suppress(ValueError):  # no segment of that size has this name
            start, commits = wal.start_of(name, size), (line.first_commit, line.last_commit)
            found.append(Segment(name, start, line.name != name, line.sha256, line.size, *commits))
    return tuple(sorted(found, key=lambda one: (one.start, one.partial)))


def sizes_in(folder: Path) -> dict[str, int]:
    """Bytes of what is in `folder` by name, in the order of names; empty if it does not exist."""
    found = dict[str, int]()
    with explained(folder), suppress(FileNotFoundError), os.scandir(folder) as entries:
        for one in entries:
            with suppress(FileNotFoundError):  # it was renamed or removed meanwhile
                found[one.name] = one.stat(follow_symlinks=False).st_size
    return dict(sorted(found.items()))
