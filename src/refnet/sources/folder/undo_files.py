"""Undoes the last restore of a folder: swaps the previous version with the live one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from refnet.catalog.manifest import utc
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, descended, opened, user_name
from refnet.core.member_names import shown_path
from refnet.sources.folder import swapping
from refnet.sources.folder.changes import Changes, changes
from refnet.sources.folder.rename import exists, inode
from refnet.sources.folder.swap_journal import Journal, SwapReason, Unit
from refnet.sources.folder.swapping import Work
from refnet.sources.folder.target import FolderTarget, explain_os_errors, finish_interrupted
from refnet.sources.folder.tree import read_entries


@dataclass(frozen=True)
class UndoPlan:
    """The plan of an undo."""

    target: FolderTarget
    #: The swap whose previous version comes back.
    back: Work
    #: The changes to what is live.
    changes: Changes

    @property
    def journal(self) -> Journal:
        return self.back.journal

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": shown_path(self.target.folder),
            "artifact": self.journal.artifact,
            "previous_versions": utc(self.journal.at),
            **self.changes.to_json(),
        }


@dataclass(frozen=True)
class Undone:
    """The result of an undo."""

    plan: UndoPlan
    #: The work folder with what was live until then.
    previous: Work
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"settled": list(self.notes), "kept": shown_path(self.previous.previous_folder)}


def plan(target: FolderTarget) -> UndoPlan:
    """Plan an undo of the last restore into `target`. RefnetError if there is no previous version."""
    last = next(reversed(target.previous_versions()), None)
    _refuse_unknown(target, last)
    if not last:
        raise RefnetError(
            f"{target.source} has no previous version in {target.folder.parent}, so there is nothing to undo",
            "A restore keeps the previous version for some days: `refnet list --previous` shows all.",
        )
    with explain_os_errors(last.path), swapping.reopened(last.swap, lock=False) as back:
        base = Path(back.journal.home, *back.journal.base)
        entries = [(unit.folder, unit.name) for unit in back.journal.units]
        with opened(base, OPEN_FOLDER) as handle:
            live = read_entries(handle, entries).files
        with back.folder("kept") as handle:
            found = changes(live, read_entries(handle, entries).files)
        return UndoPlan(target, last, _seen_from(target.folder, base, found))


def undo(target: FolderTarget, now: datetime) -> Undone:
    """Swap in the previous version under the source's lock; the live version becomes the previous one, so an undo can be undone."""
    with explain_os_errors(target.folder):
        finished = finish_interrupted(target)
        decided = plan(target)
        old = decided.journal
        with swapping.reopened(decided.back.swap, lock=False) as back, back.folder("kept") as previous:
            units = tuple(_back(unit, previous) for unit in old.units)
        site = target.site(beside=old.beside)
        with swapping.begin(site, old.artifact, now, SwapReason.UNDONE) as work:
            done = swapping.carry_out(work, old.base, units, took=decided.back.swap.name)
        return Undone(decided, done, finished)


def _refuse_unknown(target: FolderTarget, last: Work | None) -> None:
    """Raise RefnetError if this REFNET_HOME does not know the last restore."""
    newest = next(reversed(target.unknown_folders()), None)
    if newest is None or (last and newest.name < last.journal.work):
        return
    owner = user_name(newest.lstat().st_uid)
    raise RefnetError(
        f"{newest} was left by a later restore, of {owner}, that {target.swaps} does not know",
        f"Undo it as {owner}, with the REFNET_HOME of that restore. If it is not needed (of an earlier RefNet, or "
        "put there by somebody), move it away.",
    )


def _back(unit: Unit, previous: int) -> Unit:
    """Return `unit` with its previous entry as the new one."""
    with descended(previous, unit.folder) as folder:
        entry = (folder, unit.name)
        return replace(unit, fresh=inode(entry) if exists(entry) else None)


def _seen_from(folder: Path, base: Path, found: Changes) -> Changes:
    """`found` in `base`, with paths relative to `folder` as in the restore."""

    def seen(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.relpath(base / path, folder) for path in paths)

    return Changes(seen(found.added), seen(found.changed), seen(found.removed))
