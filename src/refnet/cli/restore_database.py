"""`refnet restore` and `refnet undo` of a database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from refnet.actions.acting import ActsOn
from refnet.actions.choose import choose_to_restore, read_from
from refnet.actions.cluster_databases import with_member
from refnet.cli import options, render, restore_table
from refnet.cli.command import DATABASES
from refnet.cli.completion import choice
from refnet.cli.context import confirm, context, ends_at_plan, log_subject, print_json, with_progress
from refnet.cli.output import say
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.origin import origin_label
from refnet.recovery.model.previous import MarkState
from refnet.recovery.model.restore_facts import Sessions
from refnet.recovery.model.restore_place import Where, check_name
from refnet.recovery.model.restore_plan import Compare, DatabasePlan
from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.model.table_plan import Mode
from refnet.recovery.sources.database.restore.previous_databases import PreviousDatabase
from refnet.recovery.verbs.restore_database import Options, Restored
from refnet.recovery.verbs.undo_database import UndoPlan
from refnet.sources import database_restore as action


@dataclass(frozen=True)
class Restore:
    """The options of the restore of a database alone."""

    compare: Annotated[
        Compare,
        typer.Option(
            help="Compare content, or row counts.", rich_help_panel=DATABASES, **choice("comparison", Compare)
        ),
    ] = Compare.CONTENT
    create_roles: Annotated[
        bool,
        typer.Option(
            "--create-roles", help="Create missing roles, without passwords.", rich_help_panel=DATABASES
        ),
    ] = False
    role_powers: Annotated[
        bool,
        typer.Option(
            "--role-powers",
            help="With --create-roles: also superusers and other roles with powers.",
            rich_help_panel=DATABASES,
        ),
    ] = False
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T",
            help="Only this table, in place (repeatable); T may contain * and ?.",
            rich_help_panel=DATABASES,
        ),
    ] = None
    schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S", help="Only the tables of this schema (repeatable).", rich_help_panel=DATABASES
        ),
    ] = None
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Of tables that exist: add missing rows, also change others, or replace all.",
            rich_help_panel=DATABASES,
            **choice("mode", Mode),
        ),
    ] = None
    new: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Restore as a new database of this name on the same server; replace nothing.",
            rich_help_panel=DATABASES,
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="Parallel workers; default: the setting jobs.",
            rich_help_panel=DATABASES,
        ),
    ] = None


@dataclass(frozen=True)
class Undo:
    """The argument of the undo of a database alone."""

    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="This previous version, recorded or not; default: the last one.",
            rich_help_panel=DATABASES,
        ),
    ] = None


def restore(asked: options.RestoreOptions, given: Restore, place: options.StoreOptions) -> None:
    """Restore a database: all of it beside the live one, or some of its tables in place."""
    selection, here, source = (
        restore_table.asked(given.table, given.schema, given.mode),
        with_member(context(place, key=True), asked.source),
        asked.source,
    )
    where = _where(asked.to, given)
    log_subject(here, source)
    chosen = choose_to_restore(here, source, asked.artifact, asked.at, asked.named)
    log_subject(here, source, chosen.name)
    work = _work(here, chosen, given, where, asked)
    acts_on = None if asked.to else ActsOn.of(here.settings, source)
    if not asked.as_json:
        render.print_chosen(chosen)  # first: nothing else matters as much
        _say_where(acts_on, plan=asked.plan)
    if selection:
        for refusal in () if asked.plan else chosen.refusals(anyway=asked.damaged_anyway):
            raise refusal
        restore_table.restore(work, selection, plan_only=asked.plan, force=asked.force, as_json=asked.as_json)
        return
    planned = work.plan(count=asked.plan or not asked.force, damaged_anyway=asked.damaged_anyway)
    if ends_at_plan(planned, _print_plan, plan=asked.plan, as_json=asked.as_json, acts_on=acts_on):
        raise typer.Exit(worst(problem.code for problem in planned.problems))
    planned.check()
    if planned.replaces:
        confirm(f"Replace the live database {work.target.display}?", force=asked.force)
    with with_progress(here, "restore") as shown:
        done = replace(work, context=shown).run()
    if asked.as_json:
        print_json(done.to_json() | (acts_on.to_json() if acts_on else {}))
    else:
        _print(done, f"{source} --to URL" if asked.to else source)


def _where(to: str | None, given: Restore) -> Where:
    """Return the kind of the target. RefnetError (USAGE) for options that exclude each other."""
    if to and given.new:
        raise RefnetError(
            "--as and --to exclude each other", "Write the new name into the URL of --to.", Exit.USAGE
        )
    if (given.table or given.schema) and (to or given.new):
        raise RefnetError(
            f"--table and --schema write into the live database, and exclude {'--to' if to else '--as'}",
            "Restore everything there with --as or --to, and copy the rows.",
            Exit.USAGE,
        )
    if given.new:
        check_name(given.new, "--as")
        return Where.NEW
    return Where.ELSEWHERE if to else Where.LIVE


def _say_where(acts_on: ActsOn | None, *, plan: bool) -> None:
    """Name the database of the settings, unless another one is written."""
    if acts_on:
        (print if plan else say)(str(acts_on))


def _work(
    here: Context, chosen: OpenArtifact, given: Restore, where: Where, asked: options.RestoreOptions
) -> action.DatabaseRestore:
    how = Options(
        given.jobs or here.settings.jobs,
        given.compare is Compare.CONTENT,
        given.create_roles,
        given.role_powers,
        where=where,
        name=given.new or "",
    )
    in_place = bool(given.table or given.schema)
    origin, database = read_from(here, asked.source, asked.named)
    if origin != asked.source and chosen.entry and chosen.entry.identity:
        database = chosen.entry.identity.database  # the source that is named permits its database
    return action.restore_of(
        here, asked.source, chosen, how, from_database=database, in_place=in_place, to=asked.to
    )


def undo(asked: options.UndoOptions, given: Undo) -> None:
    """Undo the last restore of a database."""
    here, source = with_member(context(), asked.source), asked.source
    acts_on = None if asked.to else ActsOn.of(here.settings, source)
    log_subject(here, source)
    if not asked.to and not given.name and (tables := action.undo_tables(here, source)):
        work, selection = tables
        restore_table.restore(work, selection, plan_only=asked.plan, force=asked.force, as_json=asked.as_json)
        return
    planned = action.plan_undo(here, source, given.name, asked.to)
    log_subject(here, source, planned.back.mark.artifact)
    if not asked.as_json:
        _say_where(acts_on, plan=asked.plan)
    if ends_at_plan(planned, _print_undo_plan, plan=asked.plan, as_json=asked.as_json, acts_on=acts_on):
        raise typer.Exit(worst(problem.code for problem in planned.problems))
    planned.check()
    if planned.replaces:
        confirm(f"Replace the live database {planned.facts.destination}?", force=asked.force)
    done = action.undo(here, source, given.name, asked.to)
    if asked.as_json:
        print_json(planned.to_json() | done.to_json() | (acts_on.to_json() if acts_on else {}))
    else:
        say(
            f"{planned.facts.destination} is {done.back.name} again: it was live until {_replaced(done.back)}."
        )
        if done.previous:
            again = f"{source} --to URL" if asked.to else source
            say(f"  what was live is {done.previous}: `refnet undo {again}` brings it back")


def _print_plan(plan: DatabasePlan) -> None:
    moment = f" of {render.local(plan.wanted.moment)}" if plan.wanted.moment else ""
    of = origin_label(plan.wanted.origin, plan.facts.destination)
    print(f"Restore {plan.wanted.name}{moment} (of {of}) as {plan.facts.destination}:")
    for number, step in enumerate(plan.steps, 1):
        print(f"  {number}. {formatting.plain(step)}")
    if plan.facts.live:
        print(f"Live now: {formatting.size(plan.facts.live.size)}, {_sessions(plan.facts.live.sessions)}")
    if tables := plan.tables():
        render.print_columns(
            [("table", "rows", "live", "written since"), *map(_row, tables)], right=(1, 2, 3), shorten=0
        )
    if user := plan.runs_as_superuser:
        print(
            f"note: {user} is a superuser: code in the dump (constraints, domains, functions in indexes) has superuser"
            " rights while it loads. To avoid that, see docs/runbook.md, Restore without a superuser"
        )
    render.print_notes(plan.notes, plan.problems)


def _sessions(sessions: tuple[Sessions, ...]) -> str:
    if not sessions:
        return "no sessions"
    return ", ".join(f"{one.count} of {one.user} ({one.application or 'unnamed'})" for one in sessions)


def _row(table: dict[str, Any]) -> tuple[str, str, str, str]:
    rows, live, since = (
        "-" if table[key] is None else f"{table[key]:,}" for key in ("rows", "live_rows", "written_since")
    )
    if table["live_rows"] is None and table["live_rows_exact"] is not None:
        live = "unknown"
    about = "" if table["live_rows_exact"] or table["live_rows"] is None else "~"
    return table["name"], rows, about + live, since


def _print(done: Restored, again: str) -> None:
    """Print what was done. `again`: the arguments of its undo."""
    passed = sum(finding.outcome is Outcome.PASSED for finding in done.findings)
    say(
        f"{done.destination} is restored from {done.artifact} (of {origin_label(done.origin, done.destination)})"
        f" in {formatting.seconds(sum(done.seconds.values()))} ({render.phases(done.seconds)})"
    )
    if done.findings:
        say(f"  {passed} of {len(done.findings)} comparisons are equal")
    for note in done.notes:
        print(f"  {formatting.plain(note)}")
    if done.previous:
        say(f"  the previous version is {done.previous}: `refnet undo {again}` brings it back")


def _print_undo_plan(plan: UndoPlan) -> None:
    for doubt in plan.doubts:
        print(f"UNRECORDED: {doubt}")
    print(f"Bring back {plan.back.name} ({formatting.size(plan.back.size)}) as {plan.facts.destination}:")
    print(f"  it was {plan.facts.database} until {_replaced(plan.back)}")
    for name, rows in plan.written.items():
        print(f"  written since in {formatting.plain(name)}: {formatting.plural(rows.newer or 0, 'row')}")
    if plan.replaces and not plan.written:
        print("  nothing was written since")
    render.print_notes(plan.notes, plan.problems)


def _replaced(back: PreviousDatabase) -> str:
    artifact = formatting.plain(back.mark.artifact)
    return render.replaced(back.at, artifact, undone=back.why is not MarkState.RESTORED)
