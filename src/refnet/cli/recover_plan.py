"""The plan of `refnet recover`: stages, artifacts, and every folder, database and command."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from refnet.actions.recovery_settings import Command, Setup
from refnet.cli import acting, render
from refnet.errors import RefnetError
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.recovery_plan import SAYS, Plan
from refnet.recovery.sources.files.member_names import show as readable


def show(plan: Plan, setup: Setup, *, now: datetime) -> None:
    """Print the plan as text."""
    print("Go on with the recovery that was interrupted:" if plan.resumed else "Recover:")
    for number, stage in enumerate(plan.stages, 1):
        print(f"  {number}. {stage:10} {SAYS[stage]}")
    print("From the set:")
    render.print_columns(
        [
            (
                f"  {s}",
                e.name,
                e.identity.database if e.identity else "",
                render.local(e.created),
                f"{formatting.age(now - e.created)} old",
                f"{e.state}, SHRUNK against {e.manifest.shrunk_from}" if e.shrunk else e.state,
            )
            for s, e in plan.entries.items()
        ]
    )
    print("To:")
    render.print_columns([(f"  {source}", where) for source, where in _places(plan, setup).items()])
    if commands := _commands(plan, setup):
        print("Commands that it runs:")
        render.print_columns([(f"  {one.stage}", _line(one)) for one in commands])
    for source in plan.standing:
        print(f"note: {source} was brought back before, and stays as it is now")
    for source, one in plan.absent.items():
        print(f"note: {source} is not brought back: {one.why}")


def values(plan: Plan, setup: Setup) -> dict[str, Any]:
    """Return the plan for --json."""
    return {
        "set": {source: entry.name for source, entry in plan.entries.items()},
        "from_database": next((e.identity.database for e in plan.entries.values() if e.identity), None),
        "absent": {source: one.why for source, one in plan.absent.items()},
        "standing": list(plan.standing),
        "stages": list(plan.stages),
        "to": _places(plan, setup),
        "commands": [
            {"stage": one.stage, "command": one.line, "restored": one.restored}
            for one in _commands(plan, setup)
        ],
        "notes": list(setup.notes),
    }


def _places(plan: Plan, setup: Setup) -> dict[str, str]:
    """Return the target of each source of the set, and the settings file."""
    places = {source.value: _place(source, setup) for source in plan.entries}
    return places | {
        "settings": acting.settings_file(setup.settings) + (", out of the backup" if setup.own else "")
    }


def _place(source: SourceName, setup: Setup) -> str:
    if source is SourceName.DATABASE:
        return acting.database(setup.settings)
    try:
        folder = setup.folder(source)
    except RefnetError as error:
        return f"{readable(error.message)}. {error.hint}"
    if folder is None:
        return "nowhere yet: nothing says into which folder (REFNET_CONFIG_DIR)"
    origin = f" ({setup.origin})" if source is SourceName.CONFIG and setup.origin else ""
    return f"{readable(str(folder), 1000)}{origin}"


def _commands(plan: Plan, setup: Setup) -> list[Command]:
    return [one for one in setup.commands if one.stage in plan.stages]


def _line(one: Command) -> str:
    line = readable(one.line, 1000)
    return f"{line} (out of the backup: asked for)" if one.restored else line
