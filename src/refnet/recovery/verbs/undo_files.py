"""Undoes the last restore of config or the vault: what it put aside and what is live are exchanged again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refnet.errors import RefnetError
from refnet.files import OPEN_FOLDER, opened, user_name
from refnet.recovery.sources.files import swapping
from refnet.recovery.sources.files.changes import Changes, changes
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.rename import Entry, inode, is_there
from refnet.recovery.sources.files.swap_journal import Journal, Unit, Why
from refnet.recovery.sources.files.swapping import Work
from refnet.recovery.sources.files.target import FolderTarget, settle, told
from refnet.recovery.sources.files.tree import read_tree


@dataclass(frozen=True)
class UndoPlan:
    """What an undo would do. `changes`: what it adds, changes and removes among what is live."""

    place: FolderTarget
    back: Work
    changes: Changes

    @property
    def journal(self) -> Journal:
        return self.back.journal


@dataclass(frozen=True)
class Undone:
    """What an undo did. `kept`: the work folder that holds what was live until then."""

    plan: UndoPlan
    kept: Work
    notes: tuple[str, ...]


def plan(place: FolderTarget) -> UndoPlan:
    """What an undo of the last restore into `place` would do; RefnetError where nothing is kept of it."""
    kept = place.kept()
    _refuse_strangers(place, kept[-1] if kept else None)
    if not kept:
        raise RefnetError(
            f"nothing is kept of {place.source} in {place.folder.parent}, so there is nothing to undo",
            "A restore keeps what was live for 7 days; `refnet list` shows the artifacts.",
        )
    with told(kept[-1].path), swapping.reopened(kept[-1].swap, claim=False) as back:
        base = Path(back.journal.home, *back.journal.base)
        with opened(base, OPEN_FOLDER) as handle:
            live = _tree(handle, {unit.name for unit in back.journal.units})
        with back.folder("kept") as handle:
            found = changes(live, _tree(handle, None))
        return UndoPlan(place, kept[-1], _seen_from(place.folder, base, found))


def undo(
    place: FolderTarget, *, lock: Callable[[], AbstractContextManager[None]], now: Callable[[], datetime]
) -> Undone:
    """Bring back what the last restore put aside; what is live is kept in its turn, so that an undo can be undone."""
    with lock(), told(place.folder):
        settled = settle(place)
        decided = plan(place)
        old = decided.journal
        with swapping.reopened(decided.back.swap, claim=False) as back, back.folder("kept") as kept:
            units = tuple(Unit(unit.name, _inode((kept, unit.name))) for unit in old.units)
        site = place.site(beside=old.beside)
        with swapping.begin(site, old.artifact, now(), Why.UNDONE) as work:
            done = swapping.carry_out(work, old.base, units, took=decided.back.swap.name)
        return Undone(decided, done, settled)


def _refuse_strangers(place: FolderTarget, last: Work | None) -> None:
    """RefnetError where a restore that this REFNET_HOME does not know is the last one."""
    newest = next(reversed(place.strangers()), None)
    if newest is None or (last and newest.name < last.journal.work):
        return
    owner = user_name(newest.lstat().st_uid)
    raise RefnetError(
        f"{newest} was left by a later restore, of {owner}, that {place.swaps} does not know",
        f"Undo it as {owner}, with the REFNET_HOME of that restore. If it is of no use (an earlier RefNet's, or "
        "somebody put it there), move it away.",
    )


def _inode(entry: Entry) -> int | None:
    return inode(entry) if is_there(entry) else None


def _seen_from(folder: Path, base: Path, found: Changes) -> Changes:
    """`found` in `base`, with its paths as the restore showed them: within `folder`."""

    def seen(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.relpath(base / path, folder) for path in paths)

    return Changes(seen(found.added), seen(found.changed), seen(found.removed))


def _tree(root: int, only: set[str] | None) -> FileList:
    """What stands in the open folder `root`, without the folder itself; of `only` these entries where it is given."""
    found = read_tree(root, only).files.files
    return FileList(tuple(one for one in found if one.path != "."))
