"""`refnet restore` and `refnet undo` of a folder."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, cast

import typer

from refnet.actions.choose import choose_to_restore
from refnet.cli import options, render
from refnet.cli.command import FOLDERS
from refnet.cli.completion import ALIASES
from refnet.cli.context import (
    confirm,
    context,
    ends_at_plan,
    log_subject,
    permit_run,
    print_json,
    with_progress,
)
from refnet.cli.output import say
from refnet.core import formatting
from refnet.core.errors import worst
from refnet.recovery.sources.files.changes import SHOWN, Changes
from refnet.recovery.sources.files.member_names import MAX_PATH, show, shown_path, some
from refnet.recovery.sources.files.merging import Action
from refnet.recovery.sources.files.swap_journal import SwapReason
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.verbs.restore_files import FolderPlan, Restored
from refnet.recovery.verbs.undo_files import Undone, UndoPlan
from refnet.sources import source_of
from refnet.sources.folder import Asked, Folder, restored_commands

_OUTSIDE = "Or let the settings name copies outside of what is restored."


@dataclass(frozen=True)
class Restore:
    """Options that apply only to folders."""

    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Restore this file or folder, or those that a pattern matches: '*.md', 'papers/**' (repeatable).",
            rich_help_panel=FOLDERS,
        ),
    ] = None
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Add what is missing, replace what is older, keep the rest; delete nothing.",
            rich_help_panel=FOLDERS,
        ),
    ] = False
    run_restored: Annotated[
        bool,
        typer.Option(
            "--yes-run-restored-commands",
            help="Do not ask before hooks that are in what is restored are run.",
            rich_help_panel=FOLDERS,
        ),
    ] = False


def restore(asked: options.RestoreOptions, given: Restore, place: options.StoreOptions) -> None:
    """Restore a folder: all of it, or some paths of it."""
    here, source = context(place, key=True), asked.source
    log_subject(here, source)
    folder = cast("Folder", source_of(here.settings, source))  # or what is restored as an entry of one
    if asked.to is None:
        folder.target()  # raises where the settings name none
    origin = ALIASES.get(asked.named or "", asked.named)
    chosen = choose_to_restore(here, source, asked.artifact, asked.at, origin)
    log_subject(here, source, chosen.name)
    if not asked.as_json:
        render.print_chosen(chosen)
    named = bool(asked.artifact or asked.named)
    wanted = Asked(tuple(given.only or ()), asked.to, given.merge, named)
    planned = folder.plan(here, chosen, wanted, damaged_anyway=asked.damaged_anyway)
    if ends_at_plan(planned, _print_plan, plan=asked.plan, as_json=asked.as_json):
        raise typer.Exit(worst(problem.code for problem in planned.problems))
    planned.check()
    if planned.replaces and planned.changes:
        confirm(f"Replace what is live in {_target(planned)}?", force=asked.force)
    commands = restored_commands(here, planned)
    if commands and not given.run_restored:
        permit_run([("hook", line) for line in commands], _OUTSIDE)
    with with_progress(here, "restore") as shown:
        done = folder.restore(shown, chosen, planned, commands)
    print_json(done.to_json()) if asked.as_json else _print(done, here.settings.retention_previous)


def undo(asked: options.UndoOptions) -> None:
    """Undo the last restore of a folder."""
    here, source = context(), asked.source
    log_subject(here, source)
    folder = cast("Folder", source_of(here.settings, source))  # or what is restored as an entry of one
    planned = folder.plan_undo(asked.to)
    log_subject(here, source, planned.journal.artifact)
    if ends_at_plan(planned, _print_undo_plan, plan=asked.plan, as_json=asked.as_json):
        return
    confirm(f"Replace what is live in {shown_path(planned.target.folder)}?", force=asked.force)
    done = folder.undo(here, asked.to)
    print_json(planned.to_json() | done.to_json()) if asked.as_json else _print_undone(done)


def _target(plan: FolderPlan) -> str:
    """Return what is restored: the folder, or the one path of it."""
    return shown_path(plan.target.folder / (plan.only[0] if len(plan.only) == 1 else ""))


def _again(target: FolderTarget) -> str:
    """Return the arguments of an undo."""
    to = f" --to {shlex.quote(shown_path(target.folder))}" if target.elsewhere else ""
    return f"{target.source}{to}"


def _print_plan(plan: FolderPlan) -> None:
    moment = f" of {render.local(plan.created)}" if plan.created else ""
    print(f"{'Merge' if plan.merge else 'Restore'} {plan.artifact}{moment} into {_target(plan)}:")
    if not plan.changes:
        print(
            f"  {'nothing is missing or older' if plan.merge else 'the live files are equal to it'}; nothing to do"
        )
    _print_actions(plan) if plan.merge else _print_changes(plan.changes)
    if plan.changes:
        print(f"  what is swapped: {_swapped(plan)}")
    render.print_notes(plan.notes, plan.problems)


def _print_actions(plan: FolderPlan) -> None:
    """Print what a merge does with each path; of a new folder with content, its content."""
    added = set(plan.changes.added)
    for path, done in (plan.merge.actions if plan.merge else {}).items():
        if done is not Action.ADD or path in added:
            print(f"  {done:<13}  {show(path, MAX_PATH)}")


def _swapped(plan: FolderPlan) -> str:
    if plan.entire:
        return "the folder itself, in one step"
    return some(sorted({*(one.path for one in plan.selection.places), *plan.selection.removed}), SHOWN)


def _print_changes(changes: Changes) -> None:
    for word, paths in changes.by_kind.items():
        if paths:
            print(f"  {len(paths):,} {word}")
        for path in paths[:SHOWN]:
            print(f"    {show(path, MAX_PATH)}")
        if len(paths) > SHOWN:
            print(f"    and {len(paths) - SHOWN:,} more")


def _print(done: Restored, days: int) -> None:
    for note in done.notes:
        print(note)
    plan = done.plan
    if not plan.changes:
        same = "has everything of" if plan.merge else "is the same as"
        say(f"{_target(plan)} {same} {plan.artifact}: nothing was done.")
        return
    compared = (
        "compared file by file" if plan.listed else "compared with the archive; could not verify: the archive"
    )
    say(
        f"{_target(plan)} is restored from {plan.artifact} in {formatting.seconds(sum(done.seconds.values()))}"
    )
    say(f"  {render.phases(done.seconds)}; {compared}")
    if done.previous and plan.merge:
        say(
            f"  for {formatting.plural(days, 'day')} `refnet undo {_again(plan.target)}` brings back what it replaced, and removes what it added"
        )
    elif done.previous:
        say(
            f"  the previous version is in {shown_path(done.previous.previous_folder)} for {formatting.plural(days, 'day')}:"
        )
        say(f"  `refnet undo {_again(plan.target)}` brings it back")
    if done.hint:
        say(f"  {done.hint}")


def _print_undo_plan(plan: UndoPlan) -> None:
    print(f"Bring back the previous version of {shown_path(plan.target.folder)} ({plan.target.source}):")
    print(f"  it was live until {_replaced(plan)}")
    _print_changes(plan.changes)
    if not plan.changes:
        print("  nothing differs from what is live")


def _print_undone(done: Undone) -> None:
    for note in done.notes:
        print(note)
    say(
        f"{shown_path(done.plan.target.folder)} is its previous version again: it was live until {_replaced(done.plan)}."
    )
    say(
        f"  what was live is now in {shown_path(done.previous.previous_folder)}: `refnet undo {_again(done.plan.target)}` brings it back"
    )


def _replaced(plan: UndoPlan) -> str:
    journal = plan.journal
    return render.replaced(journal.at, show(journal.artifact), undone=journal.why is SwapReason.UNDONE)
