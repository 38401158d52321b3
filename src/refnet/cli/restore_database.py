"""`refnet restore database` and `refnet undo database`."""

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
    from refnet.actions.choose import Chosen
    from refnet.recovery.model.restore_plan import Plan, Sessions
    from refnet.recovery.verbs.restore_database import Dump, Restored
    from refnet.recovery.verbs.undo_database import UndoPlan
    from refnet.settings import Settings


def restore(
    artifact: Annotated[
        str | None, typer.Argument(help="A listed name or any path; none: the newest whole artifact.")
    ] = None,
    *,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The newest artifact at or before this time.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
    damaged_anyway: Annotated[
        bool, typer.Option("--damaged-anyway", help="Restore an artifact that a check found damaged.")
    ] = False,
    compare: Annotated[str, typer.Option(help="content or counts.")] = "content",
    create_roles: Annotated[
        bool, typer.Option("--create-roles", help="Create missing roles, without passwords.")
    ] = False,
    role_powers: Annotated[
        bool,
        typer.Option(
            "--role-powers", help="With --create-roles: also superusers and other roles with powers."
        ),
    ] = False,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="T", help="Only the rows of this table, in place (repeatable); needs --mode."),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="With --table: add missing rows, or replace all: missing or replace.")
    ] = None,
    from_database: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Restore from this database, though it is another one than the target."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Parallel workers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Restore the database: load beside the live one, compare, exchange, keep the old one."""
    from refnet import origins, servers, wiring
    from refnet.actions.context import Context
    from refnet.cli import acting, restore_table
    from refnet.cli.confirm import confirm
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import restore_database as verb

    if compare not in ("content", "counts"):
        raise RefnetError(f"'{compare}' is nothing to compare", "Give content or counts.", Exit.USAGE)
    table_mode = restore_table.asked(table, mode)
    settings = current_settings()
    dump, chosen = _dump(settings, artifact, at, from_database)
    reach = servers.existing_server if table else servers.server
    target, told = reach(settings), acting.values(settings)
    permission = origins.permission(settings, from_database)
    refusals = chosen.refusals(anyway=damaged_anyway) if chosen else ()
    if chosen and not as_json:
        print_doubts(chosen)  # first: nothing else matters as much to who restores it
    if not as_json:
        print(acting.line(settings))
    if table and table_mode:
        if refusals and not plan:
            raise refusals[0]
        restore_table.restore(
            dump,
            target,
            table,
            table_mode,
            permission=permission,
            plan_only=plan,
            force=force,
            as_json=as_json,
            about=told,
        )
        return
    options = verb.Options(
        jobs or settings.jobs,
        compare == "content",
        create_roles,
        role_powers,
        permission=permission,
    )
    planned = verb.plan(target, dump, options, count=plan or not force)
    planned = replace(
        planned, problems=(*refusals, *planned.problems), damage=chosen.damage if chosen else ""
    )
    if ends_at_plan(planned, lambda p: _plan_values(p) | told, _print_plan, plan=plan, as_json=as_json):
        return
    planned.check()
    if planned.replaces:
        confirm(f"Replace the live database {target.display}?", force=force)
    with progress("restore") as shown, Context(settings).restore_lock(SourceName.DATABASE):
        done = verb.restore(
            target,
            dump,
            partial(servers.binaries_for, settings),
            options,
            previous=wiring.previous(settings),
            now=now,
            clock=clock,
            progress=shown,
        )
    if forgotten := origins.remember(settings, done):
        done = replace(done, notes=(*done.notes, forgotten))
    print_json(_values(done) | told) if as_json else _print(done)


def undo(
    previous: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="This previous version, recorded or not; none: the last one."),
    ] = None,
    *,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done, and stop there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Undo the last restore of the database: the previous version and the live one exchange their names again."""
    from refnet import servers, wiring
    from refnet.actions.context import Context
    from refnet.cli import acting
    from refnet.cli.confirm import confirm
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.verbs import undo_database as verb

    settings = current_settings()
    target, told = servers.existing_server(settings), acting.values(settings)
    if not as_json:
        print(acting.line(settings))
    records = wiring.previous(settings)
    planned = verb.plan(target, records, previous)
    if ends_at_plan(planned, lambda p: _undo_values(p) | told, _print_undo_plan, plan=plan, as_json=as_json):
        return
    planned.check()
    if planned.replaces:
        confirm(f"Replace the live database {target.display}?", force=force)
    with Context(settings).restore_lock(SourceName.DATABASE):
        done = verb.undo(target, records, previous, now=now)
    if as_json:
        print_json({**_undo_values(planned), "kept": done.previous, **told})
    else:
        kept = f"; what was live is kept as {done.previous}" if done.previous else ""
        print(f"{target.display} is back as it was before the restore of {done.back.mark.artifact}{kept}.")


def print_doubts(chosen: Chosen) -> None:
    """Say first that a check found the artifact damaged, or that it shrank."""
    from dataclasses import asdict

    if chosen.damage:
        print(f"DAMAGED: {chosen.name}: {chosen.damage}")
    if chosen.entry and chosen.entry.shrunk:
        print(f"{render.shrunk(asdict(chosen.entry.manifest))}: `refnet list` shows the one before")


def _dump(
    settings: Settings, artifact: str | None, at: str | None, from_database: str | None
) -> tuple[Dump, Chosen | None]:
    """What the command line names: an artifact, or a dump that RefNet did not make; else the newest of the database."""
    from refnet import servers, wiring
    from refnet.actions.choose import choose, choose_one
    from refnet.files import explained
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.catalog import parse_time
    from refnet.recovery.model.identity import Identity
    from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
    from refnet.recovery.sources.database.artifact.opening import opened
    from refnet.settings import user_path

    if artifact and at:
        raise RefnetError("ARTIFACT and --at exclude each other", "Leave one of the two out.", Exit.USAGE)
    store, source = wiring.store(settings), SourceName.DATABASE
    path = user_path(artifact or "")
    with explained(path):
        if artifact and path.is_dir():
            return ForeignDump(path, None), None
    if artifact:
        chosen = choose_one(store, artifact, source)
    else:
        target = servers.identity(settings)
        if from_database:
            target = Identity(from_database, target.system if target else None)
        chosen = choose(store, [source], parse_time(at, None) if at else None, target=target)[0]
    return opened(chosen.artifact), chosen


def _print_plan(plan: Plan) -> None:
    from refnet.recovery.model.origin import told

    moment = f" of {render.local(plan.wanted.moment)}" if plan.wanted.moment else ""
    of = told(plan.wanted.origin, plan.facts.place)
    print(f"Restore {plan.wanted.name}{moment} (of {of}) as {plan.facts.place}:")
    for number, step in enumerate(plan.steps, 1):
        print(f"  {number}. {formatting.plain(step)}")
    if plan.facts.live:
        print(f"Live now: {formatting.size(plan.facts.live.size)}, {_told(plan.facts.live.sessions)}")
    if tables := plan.tables():
        render.print_columns(
            [("table", "rows", "live", "written since"), *map(_row, tables)], right=(1, 2, 3)
        )
    if user := plan.runs_as_superuser:
        print(
            f"note: {user} is a superuser: code in the dump (constraints, domains, functions in indexes) has its rights"
            " while it loads. A login that is none avoids that: see docs/runbook.md, Restore without a superuser"
        )
    for note in plan.notes:
        print(f"note: {formatting.plain(note)}")
    for problem in plan.problems:
        print(f"problem: {formatting.plain(problem.message)}\n         {formatting.plain(problem.hint)}")


def _told(sessions: tuple[Sessions, ...]) -> str:
    if not sessions:
        return "no sessions"
    return ", ".join(f"{one.count} of {one.user} ({one.application or 'unnamed'})" for one in sessions)


def _row(table: dict[str, Any]) -> tuple[str, str, str, str]:
    def number(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    about = "" if table["live_rows_exact"] or table["live_rows"] is None else "~"
    return (
        table["name"],
        number(table["rows"]),
        about + number(table["live_rows"]),
        number(table["written_since"]),
    )


def _plan_values(plan: Plan) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    live = plan.facts.live
    return {
        "artifact": plan.wanted.name,
        "damage": plan.damage,
        "created": utc(plan.wanted.moment) if plan.wanted.moment else None,
        "database": plan.facts.database,
        "server": plan.facts.server,
        "system_identifier": plan.facts.system,
        "from_database": plan.wanted.database,
        "from_system_identifier": plan.wanted.system,
        "replaces": plan.replaces,
        "steps": list(plan.steps),
        "problems": [{"message": one.message, "hint": one.hint} for one in plan.problems],
        "notes": list(plan.notes),
        "create_roles": list(plan.create_roles),
        "role_powers": {role: list(found) for role, found in plan.role_powers.items()},
        "runs_as_superuser": bool(plan.runs_as_superuser),
        "bytes_needed": plan.bytes_needed,
        "bytes_free": plan.facts.free,
        "live_bytes": live.size if live else None,
        "connections": [
            {"application": one.application, "user": one.user, "count": one.count}
            for one in (live.sessions if live else ())
        ],
        "tables": plan.tables(),
    }


def _print(done: Restored) -> None:
    from refnet.recovery.model.artifact import Outcome
    from refnet.recovery.model.origin import told

    passed = sum(finding.outcome is Outcome.PASSED for finding in done.findings)
    took = ", ".join(f"{phase} {formatting.seconds(taken)}" for phase, taken in done.seconds.items())
    print(
        f"{done.place} is restored from {done.artifact} (of {told(done.origin, done.place)})"
        f" in {formatting.seconds(sum(done.seconds.values()))} ({took})"
    )
    if done.findings:
        print(f"  {passed} of {len(done.findings)} comparisons are equal")
    for note in done.notes:
        print(f"  {formatting.plain(note)}")
    if done.previous:
        print(f"  the old one is kept as {done.previous}: `refnet undo database` brings it back")


def _values(done: Restored) -> dict[str, Any]:
    return {
        "database": done.database,
        "server": done.place.server,
        "from_database": done.origin.database if done.origin else None,
        "from_system_identifier": done.origin.system if done.origin else None,
        "artifact": done.artifact,
        "kept": done.previous,
        "seconds": {phase: round(taken, 3) for phase, taken in done.seconds.items()},
        "seconds_in_all": round(sum(done.seconds.values()), 3),
        "findings": [{"what": f.what, "outcome": f.outcome, "reason": f.reason} for f in done.findings],
        "notes": list(done.notes),
    }


def _print_undo_plan(plan: UndoPlan) -> None:

    for doubt in plan.doubts:
        print(f"UNRECORDED: {doubt}")
    size = formatting.size(plan.back.size)
    print(
        f"Bring back {plan.back.name} ({size}, put aside {render.local(plan.back.at)}) as {plan.facts.place}."
    )
    for name, rows in plan.written.items():
        print(f"  written since in {formatting.plain(name)}: {formatting.plural(rows.newer or 0, 'row')}")
    if plan.replaces and not plan.written:
        print("  nothing was written since")
    for note in plan.notes:
        print(f"note: {formatting.plain(note)}")
    for problem in plan.problems:
        print(f"problem: {formatting.plain(problem.message)}\n         {formatting.plain(problem.hint)}")


def _undo_values(plan: UndoPlan) -> dict[str, Any]:
    from refnet.recovery.model.artifact import utc

    return {
        "database": plan.facts.database,
        "server": plan.facts.server,
        "back": plan.back.name,
        "previous_versions": utc(plan.back.at),
        "recorded": not plan.doubts,
        "doubts": list(plan.doubts),
        "notes": list(plan.notes),
        "artifact": plan.back.mark.artifact,
        "replaces": plan.replaces,
        "written_since": {name: rows.newer for name, rows in plan.written.items()},
        "problems": [{"message": one.message, "hint": one.hint} for one in plan.problems],
    }
