"""`refnet restore config|obsidian` and `refnet undo config|obsidian`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli import render
from refnet.cli.context import clock, current_settings, ends_at_plan, now, print_json, progress
from refnet.errors import Exit, RefnetError
from refnet.recovery.model import formatting

if TYPE_CHECKING:
    from pathlib import Path

    from refnet.actions.choose import Chosen
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.sources.files.changes import Changes
    from refnet.recovery.verbs.restore_files import Plan, Restored
    from refnet.recovery.verbs.undo_files import Undone, UndoPlan
    from refnet.settings import Settings

#: How many paths of each kind are shown.
_SHOWN = 10

_Artifact = Annotated[
    str | None, typer.Argument(help="A listed name or any path; none: the newest whole artifact.")
]
_At = Annotated[str | None, typer.Option(metavar="TIME", help="The newest artifact at or before this time.")]
_PlanOnly = Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop there.")]
_Only = Annotated[str | None, typer.Option(metavar="PATH", help="Bring back this one file or folder.")]
_DamagedAnyway = Annotated[
    bool, typer.Option("--damaged-anyway", help="Restore an artifact that a check found damaged.")
]
_Force = Annotated[bool, typer.Option("--force", help="Do not ask.")]
_Json = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def restore_config(
    artifact: _Artifact = None,
    *,
    at: _At = None,
    plan: _PlanOnly = False,
    only: _Only = None,
    force: _Force = False,
    damaged_anyway: _DamagedAnyway = False,
    as_json: _Json = False,
) -> None:
    """Restore the configuration: unpack beside it, compare, exchange the listed entries, keep the old ones."""
    _restore(
        "config", artifact, at, only, plan=plan, force=force, damaged_anyway=damaged_anyway, as_json=as_json
    )


def restore_obsidian(
    artifact: _Artifact = None,
    *,
    at: _At = None,
    plan: _PlanOnly = False,
    only: _Only = None,
    force: _Force = False,
    damaged_anyway: _DamagedAnyway = False,
    as_json: _Json = False,
) -> None:
    """Restore the vault: unpack beside it, compare, exchange the folders, keep the old one."""
    _restore(
        "obsidian", artifact, at, only, plan=plan, force=force, damaged_anyway=damaged_anyway, as_json=as_json
    )


def undo_config(*, plan: _PlanOnly = False, force: _Force = False, as_json: _Json = False) -> None:
    """Undo the last restore of the configuration: what was put aside and what is live are exchanged again."""
    _undo("config", plan=plan, force=force, as_json=as_json)


def undo_obsidian(*, plan: _PlanOnly = False, force: _Force = False, as_json: _Json = False) -> None:
    """Undo the last restore of the vault: what was put aside and what is live are exchanged again."""
    _undo("obsidian", plan=plan, force=force, as_json=as_json)


def _restore(
    name: str,
    artifact: str | None,
    at: str | None,
    only: str | None,
    *,
    plan: bool,
    force: bool,
    damaged_anyway: bool,
    as_json: bool,
) -> None:
    from refnet import wiring
    from refnet.actions.context import Context
    from refnet.cli.confirm import confirm
    from refnet.cli.restore_database import print_doubts
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import restore_files as verb

    settings, source = current_settings(), SourceName(name)
    place = wiring.place(settings, source)
    chosen = _chosen(settings, source, artifact, at)
    held = chosen.artifact
    if not as_json:
        print_doubts(chosen)
    planned = verb.plan(held, place, only)
    refusals = chosen.refusals(anyway=damaged_anyway)
    planned = replace(planned, problems=(*refusals, *planned.problems), damage=chosen.damage)
    if ends_at_plan(planned, _plan_values, _print_plan, plan=plan, as_json=as_json):
        return
    planned.check()
    if planned.replaces and planned.changes:
        confirm(f"Replace what is live in {_meant(planned)}?", force=force)
    with progress("restore") as shown:
        done = verb.restore(
            held,
            planned,
            lock=partial(Context(settings).restore_lock, source),
            now=now,
            clock=clock,
            progress=shown,
        )
    print_json(_values(done)) if as_json else _print(done)


def _chosen(settings: Settings, source: SourceName, artifact: str | None, at: str | None) -> Chosen:
    from refnet import wiring
    from refnet.actions.choose import choose, choose_one
    from refnet.recovery.model.catalog import parse_time

    if artifact and at:
        raise RefnetError("ARTIFACT and --at exclude each other", "Leave one of the two out.", Exit.USAGE)
    store = wiring.store(settings)
    if not artifact:
        return choose(store, [source], parse_time(at, None) if at else None)[0]
    return choose_one(store, artifact, source)


def _path(path: Path) -> str:
    """`path` as a terminal can show it."""
    from refnet.recovery.sources.files.member_names import show

    return show(str(path), 4096)


def _meant(plan: Plan) -> str:
    """What is restored: the folder, or the one file of it."""
    return _path(plan.target.folder / (plan.only or ""))


def _print_plan(plan: Plan) -> None:

    moment = f" of {render.local(plan.created)}" if plan.created else ""
    print(f"Restore {plan.artifact}{moment} into {_meant(plan)}:")
    if not plan.changes:
        print("  what is live is equal to it: there is nothing to do")
    _print_changes(plan.changes, plan.selection.prefix)
    if plan.changes:
        print(f"  what is exchanged: {_exchanged(plan)}")
    for note in plan.notes:
        print(f"note: {note}")
    for problem in plan.problems:
        print(f"problem: {problem.message}\n         {problem.hint}")


def _exchanged(plan: Plan) -> str:
    from refnet.recovery.sources.files.member_names import some

    if plan.entire:
        return "the folder itself, in one step"
    return some(sorted({*plan.selection.names, *plan.selection.removed}), _SHOWN)


def _print_changes(changes: Changes, prefix: str = "") -> None:
    from refnet.recovery.sources.files.member_names import MAX_PATH, show

    for word, paths in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        if paths:
            print(f"  {len(paths):,} {word}")
        for path in paths[:_SHOWN]:
            print(f"    {show(prefix + path, MAX_PATH)}")
        if len(paths) > _SHOWN:
            print(f"    and {len(paths) - _SHOWN:,} more")


def _print(done: Restored) -> None:

    for note in done.notes:
        print(note)
    plan = done.plan
    if not plan.changes:
        print(f"{_meant(plan)} is what {plan.artifact} holds: nothing was done.")
        return
    took = ", ".join(f"{phase} {formatting.seconds(taken)}" for phase, taken in done.seconds.items())
    compared = (
        "compared file by file" if plan.listed else "compared with the archive; could not verify: the archive"
    )
    print(
        f"{_meant(plan)} is restored from {plan.artifact} in {formatting.seconds(sum(done.seconds.values()))}"
    )
    print(f"  {took}; {compared}")
    if done.previous:
        print(f"  what was live is kept in {_path(done.previous.previous_folder)} for 7 days:")
        print(f"  `refnet undo {plan.target.source}` brings it back")
    print(f"  {done.hint}")


def _change_values(changes: Changes, prefix: str = "") -> dict[str, Any]:
    from refnet.recovery.sources.files.member_names import spelled

    values: dict[str, Any] = {}
    for word, paths in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        values[word] = {"count": len(paths), "first": [spelled(prefix + path) for path in paths[:_SHOWN]]}
    return values


def _plan_values(plan: Plan) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "artifact": plan.artifact,
        "damage": plan.damage,
        "created": utc(plan.created) if plan.created else None,
        "folder": _path(plan.target.folder),
        "replaces": plan.replaces and bool(plan.changes),
        **_change_values(plan.changes, plan.selection.prefix),
        "notes": list(plan.notes),
        "problems": [{"message": one.message, "hint": one.hint} for one in plan.problems],
    }


def _values(done: Restored) -> dict[str, Any]:
    return {
        **_plan_values(done.plan),
        "done": bool(done.plan.changes),
        "settled": list(done.notes),
        "kept": _path(done.previous.previous_folder) if done.previous else None,
        "seconds": {phase: round(taken, 3) for phase, taken in done.seconds.items()},
        "hint": done.hint,
    }


def _undo(name: str, *, plan: bool, force: bool, as_json: bool) -> None:
    from refnet import wiring
    from refnet.actions.context import Context
    from refnet.cli.confirm import confirm
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import undo_files as verb

    settings, source = current_settings(), SourceName(name)
    place = wiring.place(settings, source)
    planned = verb.plan(place)
    if ends_at_plan(planned, _undo_values, _print_undo_plan, plan=plan, as_json=as_json):
        return
    confirm(f"Replace what is live in {_path(place.folder)}?", force=force)
    done = verb.undo(place, lock=partial(Context(settings).restore_lock, source), now=now)
    if as_json:
        print_json(
            {
                **_undo_values(planned),
                "settled": list(done.notes),
                "kept": _path(done.previous.previous_folder),
            }
        )
    else:
        _print_undone(done)


def _print_undo_plan(plan: UndoPlan) -> None:

    aside = render.local(plan.journal.at)
    print(
        f"Bring back into {_path(plan.target.folder)} what was put aside {aside} for {plan.journal.artifact}:"
    )
    _print_changes(plan.changes)
    if not plan.changes:
        print("  nothing differs from what is live")


def _print_undone(done: Undone) -> None:
    for note in done.notes:
        print(note)
    print(
        f"{_path(done.plan.target.folder)} is back as it was before; what was live is kept in {_path(done.previous.previous_folder)}"
    )


def _undo_values(plan: UndoPlan) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "folder": _path(plan.target.folder),
        "artifact": plan.journal.artifact,
        "previous_versions": utc(plan.journal.at),
        **_change_values(plan.changes),
    }
