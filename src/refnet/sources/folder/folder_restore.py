"""The restore of a folder as a command carries it out, its undo, and the output of both."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import utc
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, descended, opened, user_name
from refnet.core.formatting import local, noted, phases, plural, replaced, seconds
from refnet.core.member_names import MAX_PATH, show, shown_path, some
from refnet.sources import hooks
from refnet.sources.folder import restore_files, swapping
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.merging import MergeAction
from refnet.sources.folder.rename import exists, inode
from refnet.sources.folder.restore_files import FolderPlan, RestoredFolder
from refnet.sources.folder.swap_journal import SwapJournal, SwapReason, SwapUnit
from refnet.sources.folder.swapping import WorkFolder
from refnet.sources.folder.target import FolderTarget, explain_os_errors, finish_interrupted
from refnet.sources.folder.tree import SHOWN, Changes, changes, read_entries
from refnet.sources.restoring import RestoreDone, RestoreRequest, RestoreWork, Said, take_over


class FolderRestore(RestoreWork):
    """A restore of a folder: all of it, or some paths of it."""

    title = "restore"
    #: What is compared one by one.
    unit = "file"
    planned: FolderPlan
    #: Commands out of the backup that the user has seen.
    _permitted: tuple[str, ...] = ()

    def __init__(
        self,
        chosen: OpenArtifact,
        target: FolderTarget,
        request: RestoreRequest,
        whose: Callable[[], Whose | None],
    ) -> None:
        """`whose` returns the identity of the source on this machine."""
        self.chosen, self.target, self.request, self._whose = chosen, target, request, whose

    def plan(self, context: Context) -> FolderPlan:
        chosen, target, request = self.chosen, self.target, self.request
        planned = self._decided(context)
        refusals = (*chosen.refusals(anyway=request.damaged_anyway), *self._of_another(planned))
        other = [f"it is an artifact of {chosen.source}"] if chosen.source != target.source else []
        hooked = (
            hooks.listed(context.settings, target.source, hooks.HookAction.RESTORE)
            if request.to is None
            else []
        )
        self._permitted = _restored_commands(context, planned)
        asks = [f"{line} is in the restored files: needs confirmation" for line in self._permitted]
        self.planned = replace(
            planned,
            problems=(*refusals, *planned.problems),
            notes=(*other, *chosen.notes, *planned.notes, *(f"hook {line}" for line in hooked), *asks),
            damage=chosen.damage,
        )
        return self.planned

    def _decided(self, context: Context) -> FolderPlan:  # noqa: ARG002
        """The plan, based only on live files and artifact."""
        request = self.request
        return restore_files.plan(FilesArtifact(self.chosen), self.target, request.only, merge=request.merge)

    def _of_another(self, planned: FolderPlan) -> Iterator[RefnetError]:
        """Problem: an artifact that was not named explicitly must not replace files that this machine never backed up."""
        chosen, source = self.chosen, self.target.source
        whose = chosen.manifest.whose if chosen.manifest else None
        allowed = self.request.named or self.target.elsewhere or not (planned.replaces and planned.changes)
        if whose is None or allowed:
            return
        if self._whose() != whose:
            yield RefnetError(
                f"{chosen.name} is of another machine, or of another REFNET_HOME: here no artifact of {source} was made yet",
                f"To replace the live version with it, name it: `refnet restore {source} {chosen.name}`.",
                Exit.USAGE,
            )

    def commands(self) -> tuple[str, ...]:
        return self._permitted

    def restore(self, context: Context, permitted: tuple[str, ...] = ()) -> RestoredFolder:
        """Do what was planned.

        permitted: `commands` that the user permitted; RefnetError (CONFIRM) for others.
        """
        planned, source, is_live = self.planned, self.target.source, not self.target.elsewhere
        if new := [one for one in _restored_commands(context, planned) if one not in permitted]:
            raise _not_permitted(new)
        around = hooks.around(context, source, hooks.HookAction.RESTORE, self.chosen.name)
        with around if is_live and planned.changes else nullcontext(), context.restore_lock(source):
            context.swapping("")  # the content tells which version is live
            done = self._put(context)
            if is_live and not planned.only and planned.merge is None:
                take_over(context, source, self.chosen)
        return done

    def _put(self, context: Context) -> RestoredFolder:
        """Swap in the planned files."""
        return restore_files.restore(
            FilesArtifact(self.chosen), self.planned, context.clock, context.progress
        )

    def describe(self) -> Iterator[str]:
        plan = self.planned
        moment = f" of {local(plan.created)}" if plan.created else ""
        yield f"{'Merge' if plan.merge else 'Restore'} {plan.artifact}{moment} into {self._written}:"
        if not plan.changes:
            equal = "nothing is missing or older" if plan.merge else "the live files are equal to it"
            yield f"  {equal}; nothing to do"
        yield from _actions(plan) if plan.merge else _changes(plan.changes)
        if plan.changes:
            yield f"  what is swapped: {_swapped(plan)}"
        yield from noted(plan.notes, plan.problems)

    def question(self) -> str:
        if self.planned.replaces and self.planned.changes:
            return f"Replace the live version in {self._written}?"
        return ""

    def run(self, context: Context) -> RestoreDone:
        done = self.restore(context, self._permitted)
        return RestoreDone(done.to_json(), tuple(self._said(done, context.settings.retention_previous)))

    @property
    def _written(self) -> str:
        """The restored place: the folder, or a single path in it."""
        plan = self.planned
        return shown_path(plan.target.folder / (plan.only[0] if len(plan.only) == 1 else ""))

    def _said(self, done: RestoredFolder, days: int) -> Iterator[Said]:
        yield from (Said(note, always=True) for note in done.notes)
        plan, kept = done.plan, plural(days, "day")
        if not plan.changes:
            same = "has everything of" if plan.merge else "is the same as"
            yield Said(f"{self._written} {same} {plan.artifact}: nothing was done.")
            return
        compared = (
            f"compared {self.unit} by {self.unit}"
            if plan.listed
            else "compared with the archive; could not verify: the archive"
        )
        taken = seconds(sum(done.seconds.values()))
        yield Said(f"{self._written} is restored from {plan.artifact} in {taken}")
        yield Said(f"  {phases(done.seconds)}; {compared}")
        again = f"`refnet undo {_again(plan.target)}` brings"
        if done.previous and plan.merge:
            yield Said(f"  for {kept} {again} back what it replaced, and removes what it added")
        elif done.previous:
            yield Said(
                f"  the previous version is in {shown_path(done.previous.previous_folder)} for {kept}:"
            )
            yield Said(f"  {again} it back")
        if done.hint:
            yield Said(f"  {done.hint}")


@dataclass(frozen=True)
class FolderUndoPlan:
    """The plan of an undo."""

    target: FolderTarget
    #: The swap whose previous version comes back.
    back: WorkFolder
    #: The changes to what is live.
    changes: Changes
    problems: tuple[RefnetError, ...] = ()

    @property
    def journal(self) -> SwapJournal:
        return self.back.journal

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": shown_path(self.target.folder),
            "artifact": self.journal.artifact,
            "previous_versions": utc(self.journal.at),
            **self.changes.to_json(),
        }


@dataclass(frozen=True)
class FolderUndone:
    """The result of an undo."""

    plan: FolderUndoPlan
    #: The work folder with what was live until then.
    previous: WorkFolder
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"settled": list(self.notes), "kept": shown_path(self.previous.previous_folder)}


class FolderUndo(RestoreWork):
    """An undo of the last restore of a folder."""

    def __init__(self, target: Callable[[], FolderTarget]) -> None:
        self._target = target
        self.planned: FolderUndoPlan = plan_undo(target())
        self.artifact = self.planned.journal.artifact

    def describe(self) -> Iterator[str]:
        plan = self.planned
        yield f"Bring back the previous version of {shown_path(plan.target.folder)} ({plan.target.source}):"
        yield f"  it was live until {_replaced(plan)}"
        yield from _changes(plan.changes)
        if not plan.changes:
            yield "  no differences from the live version"

    def question(self) -> str:
        return f"Replace the live version in {shown_path(self.planned.target.folder)}?"

    def run(self, context: Context) -> RestoreDone:
        target = self._target()
        with context.restore_lock(target.source):
            done = undo(target, context.clock.now())
        folder, previous = shown_path(done.plan.target.folder), shown_path(done.previous.previous_folder)
        said = (
            *(Said(note, always=True) for note in done.notes),
            Said(f"{folder} is its previous version again: it was live until {_replaced(done.plan)}."),
            Said(
                f"  the replaced version is now in {previous}: `refnet undo {_again(done.plan.target)}` brings it back"
            ),
        )
        return RestoreDone(self.planned.to_json() | done.to_json(), said)


def plan_undo(target: FolderTarget) -> FolderUndoPlan:
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
        return FolderUndoPlan(target, last, _seen_from(target.folder, base, found))


def undo(target: FolderTarget, now: datetime) -> FolderUndone:
    """Swap in the previous version under the source's lock; the live version becomes the previous one, so an undo can be undone."""
    with explain_os_errors(target.folder):
        finished = finish_interrupted(target)
        decided = plan_undo(target)
        old = decided.journal
        with swapping.reopened(decided.back.swap, lock=False) as back, back.folder("kept") as previous:
            units = tuple(_back(unit, previous) for unit in old.units)
        site = target.site(beside=old.beside)
        with swapping.begin(site, old.artifact, now, SwapReason.UNDONE) as work:
            done = swapping.carry_out(work, old.base, units, took=decided.back.swap.name)
        return FolderUndone(decided, done, finished)


def _refuse_unknown(target: FolderTarget, last: WorkFolder | None) -> None:
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


def _back(unit: SwapUnit, previous: int) -> SwapUnit:
    """Return `unit` with its previous entry as the new one."""
    with descended(previous, unit.folder) as folder:
        entry = (folder, unit.name)
        return replace(unit, fresh=inode(entry) if exists(entry) else None)


def _seen_from(folder: Path, base: Path, found: Changes) -> Changes:
    """`found` in `base`, with paths relative to `folder` as in the restore."""

    def seen(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.relpath(base / path, folder) for path in paths)

    return Changes(seen(found.added), seen(found.changed), seen(found.removed))


def _restored_commands(context: Context, planned: FolderPlan) -> tuple[str, ...]:
    """Hooks (also of backups) that run code from the restored folder."""
    return hooks.in_folders(context.settings, [planned.target.folder]) if planned.changes else ()


def _not_permitted(lines: Sequence[str]) -> RefnetError:
    """Error about unpermitted commands from a backup."""
    return RefnetError(
        f"commands from the backup would run: {some(lines, 3)}",
        "Let the settings name copies of them outside of the restored folder.",
        Exit.CONFIRM,
    )


def _again(target: FolderTarget) -> str:
    """The arguments of an undo."""
    to = f" --to {shlex.quote(shown_path(target.folder))}" if target.elsewhere else ""
    return f"{target.source}{to}"


def _actions(plan: FolderPlan) -> Iterator[str]:
    """Actions of a merge by path; a new non-empty folder is represented by its content."""
    added = set(plan.changes.added)
    for path, done in (plan.merge.actions if plan.merge else {}).items():
        if done is not MergeAction.ADD or path in added:
            yield f"  {done:<13}  {show(path, MAX_PATH)}"


def _swapped(plan: FolderPlan) -> str:
    if plan.entire:
        return "the folder itself, in one step"
    return some(sorted({*(one.path for one in plan.selection.places), *plan.selection.removed}), SHOWN)


def _changes(changes: Changes) -> Iterator[str]:
    for word, paths in changes.by_kind.items():
        if paths:
            yield f"  {len(paths):,} {word}"
        for path in paths[:SHOWN]:
            yield f"    {show(path, MAX_PATH)}"
        if len(paths) > SHOWN:
            yield f"    and {len(paths) - SHOWN:,} more"


def _replaced(plan: FolderUndoPlan) -> str:
    journal = plan.journal
    return replaced(journal.at, show(journal.artifact), undone=journal.why is SwapReason.UNDONE)
