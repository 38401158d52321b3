"""Undoes the last restore of config or the vault: what it put aside and what is live are exchanged again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refnet.errors import RefnetError
from refnet.recovery.sources.files import exchange
from refnet.recovery.sources.files.changes import Changes, changes
from refnet.recovery.sources.files.exchange import Journal, Unit, Why, Work
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.place import Place, settle, told
from refnet.recovery.sources.files.tree import read_tree
from refnet.recovery.sources.files.walk import OPEN_FOLDER


@dataclass(frozen=True)
class UndoPlan:
    """What an undo would do. `changes`: what it adds, changes and removes among what is live."""

    place: Place
    back: Work
    journal: Journal
    changes: Changes


@dataclass(frozen=True)
class Undone:
    """What an undo did. `kept`: the work folder that holds what was live until then."""

    plan: UndoPlan
    kept: Work
    notes: tuple[str, ...]


def plan(place: Place) -> UndoPlan:
    """What an undo of the last restore into `place` would do; RefnetError where nothing is kept of it."""
    kept = place.kept()
    if not kept:
        raise RefnetError(
            f"nothing is kept of {place.source} in {place.folder.parent}, so there is nothing to undo",
            "A restore keeps what was live for 7 days; `refnet list` shows the artifacts.",
        )
    back, journal = kept[-1]
    with told(back.path):
        live = _tree(back.base(journal), {unit.name for unit in journal.units})
        found = changes(live, _tree(back.kept, None))
        return UndoPlan(place, back, journal, _seen_from(place.folder, back.base(journal), found))


def undo(
    place: Place, *, lock: Callable[[], AbstractContextManager[None]], now: Callable[[], datetime]
) -> Undone:
    """Bring back what the last restore put aside; what is live is kept in its turn, so that an undo can be undone."""
    with lock(), told(place.folder):
        settled = settle(place)
        decided = plan(place)
        back, old = decided.back, decided.journal
        units = tuple(Unit(unit.name, _inode(back.kept / unit.name)) for unit in old.units)
        journal = Journal(place.source, old.artifact, now(), Why.UNDONE, old.base, units, took=back.path.name)
        with exchange.begin(back.path.parent, place.source, back.of, now().astimezone()) as work:
            exchange.write(work.path, journal)
            exchange.finish(work, journal)
        return Undone(decided, work, settled)


def _inode(path: Path) -> int | None:
    return path.lstat().st_ino if os.path.lexists(path) else None


def _seen_from(folder: Path, base: Path, found: Changes) -> Changes:
    """`found` in `base`, with its paths as the restore showed them: within `folder`."""

    def seen(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.relpath(base / path, folder) for path in paths)

    return Changes(seen(found.added), seen(found.changed), seen(found.removed))


def _tree(folder: Path, only: set[str] | None) -> FileList:
    """What stands in `folder`, without the folder itself; of `only` these entries where it is given."""
    root = os.open(folder, OPEN_FOLDER)
    try:
        found = read_tree(root, only).files.files
        return FileList(tuple(one for one in found if one.path != "."))
    finally:
        os.close(root)
