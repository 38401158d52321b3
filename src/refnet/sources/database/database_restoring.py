"""The restore and the undo of a database, and what they print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Outcome
from refnet.catalog.previous import MarkState
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import local, noted, phases, plain, plural, replaced, seconds, size
from refnet.sources.acting import ActsOn
from refnet.sources.database import database_restore
from refnet.sources.database.database_restore import DatabaseRestore
from refnet.sources.database.plan.origin import origin_label
from refnet.sources.database.plan.restore_facts import Sessions
from refnet.sources.database.plan.restore_place import Where, check_name
from refnet.sources.database.plan.restore_plan import DatabasePlan, Options
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.restore.copy_and_swap import Restored
from refnet.sources.database.restore.previous_databases import PreviousDatabase
from refnet.sources.database.tables_restoring import TablesRestore
from refnet.sources.database.undo_database import UndoPlan
from refnet.sources.restore_options import Compare
from refnet.sources.restoring import Columns, Done, Request, Said, Work


def check(request: Request) -> None:
    """RefnetError (USAGE) for options that exclude each other."""
    if request.mode and not request.tables and not request.schemas:
        raise RefnetError("--mode requires --table or --schema", "Name each table.", Exit.USAGE)
    if request.to and request.new:
        raise RefnetError(
            "--as and --to exclude each other", "Write the new name into the URL of --to.", Exit.USAGE
        )
    if (request.tables or request.schemas) and (request.to or request.new):
        raise RefnetError(
            f"--table and --schema write into the live database, and exclude {'--to' if request.to else '--as'}",
            "Restore everything there with --as or --to, and copy the rows.",
            Exit.USAGE,
        )
    if request.new:
        check_name(request.new, "--as")


def restoring(context: Context, source: SourceName, chosen: OpenArtifact, request: Request) -> Work:
    """A restore of all of a database beside the live one, or of some of its tables in place."""
    where = Where.NEW if request.new else Where.ELSEWHERE if request.to else Where.LIVE
    how = Options(
        request.jobs or context.settings.jobs,
        request.compare is Compare.CONTENT,
        request.create_roles,
        request.role_powers,
        where=where,
        name=request.new,
    )
    in_place = bool(request.tables or request.schemas)
    restore = database_restore.restore_of(
        context, source, chosen, how, from_database=request.from_database, in_place=in_place, to=request.to
    )
    if in_place:
        return TablesRestore(restore, TableSelection(request.tables, request.mode, request.schemas), request)
    return WholeRestore(restore, request)


def undoing(context: Context, source: SourceName, request: Request) -> Work:
    """An undo of the last restore: of tables, if that was one of tables in place."""
    if not request.to and not request.previous:
        tables = database_restore.undo_tables(context, source)
        if tables:
            undo = TablesRestore(*tables, request)
            undo.names_target = False
            return undo
    return DatabaseUndo(context, source, request)


class WholeRestore(Work):
    """A restore of all of a database."""

    title = "restore"
    planned: DatabasePlan

    def __init__(self, restore: DatabaseRestore, request: Request) -> None:
        self.restore, self.request = restore, request
        if not request.to:
            self.acts_on = ActsOn.of(restore.context.settings, restore.source)

    def plan(self, context: Context) -> DatabasePlan:  # noqa: ARG002
        request = self.request
        count = request.plan or not request.force
        self.planned = self.restore.plan(count=count, damaged_anyway=request.damaged_anyway)
        return self.planned

    @property
    def problems(self) -> Sequence[RefnetError]:
        return self.planned.problems

    def describe(self) -> Iterator[str | Columns]:
        plan = self.planned
        moment = f" of {local(plan.wanted.moment)}" if plan.wanted.moment else ""
        of = origin_label(plan.wanted.origin, plan.facts.destination)
        yield f"Restore {plan.wanted.name}{moment} (of {of}) as {plan.facts.destination}:"
        for number, step in enumerate(plan.steps, 1):
            yield f"  {number}. {plain(step)}"
        if plan.facts.live:
            yield f"Live now: {size(plan.facts.live.size)}, {_sessions(plan.facts.live.sessions)}"
        if tables := plan.tables():
            yield Columns([("table", "rows", "live", "written since"), *map(row, tables)], (1, 2, 3), 0)
        if user := plan.runs_as_superuser:
            yield (
                f"note: {user} is a superuser: code in the dump (constraints, domains, functions in indexes) has superuser"
                " rights while it loads. To avoid that, see docs/runbook.md, Restore without a superuser"
            )
        yield from noted(plan.notes, plan.problems)

    def question(self) -> str:
        return f"Replace the live database {self.restore.target.display}?" if self.planned.replaces else ""

    def run(self, context: Context) -> Done:
        done = replace(self.restore, context=context).run()
        source = self.restore.source
        return Done(done.to_json(), tuple(_said(done, _again(source, self.request.to))))


class DatabaseUndo(Work):
    """An undo of the last restore of a database."""

    def __init__(self, context: Context, source: SourceName, request: Request) -> None:
        self.source, self.request = source, request
        self.planned: UndoPlan = database_restore.plan_undo(context, source, request.previous, request.to)
        self.artifact = self.planned.back.mark.artifact
        if not request.to:
            self.acts_on = ActsOn.of(context.settings, source)

    def plan(self, context: Context) -> UndoPlan:  # noqa: ARG002
        return self.planned

    @property
    def problems(self) -> Sequence[RefnetError]:
        return self.planned.problems

    def describe(self) -> Iterator[str]:
        plan = self.planned
        for doubt in plan.doubts:
            yield f"UNRECORDED: {doubt}"
        yield f"Bring back {plan.back.name} ({size(plan.back.size)}) as {plan.facts.destination}:"
        yield f"  it was {plan.facts.database} until {_replaced(plan.back)}"
        for name, rows in plan.written.items():
            yield f"  written since in {plain(name)}: {plural(rows.newer or 0, 'row')}"
        if plan.replaces and not plan.written:
            yield "  nothing was written since"
        yield from noted(plan.notes, plan.problems)

    def question(self) -> str:
        plan = self.planned
        return f"Replace the live database {plan.facts.destination}?" if plan.replaces else ""

    def run(self, context: Context) -> Done:
        request, live = self.request, self.planned.facts.destination
        done = database_restore.undo(context, self.source, request.previous, request.to)
        said = [Said(f"{live} is {done.back.name} again: it was live until {_replaced(done.back)}.")]
        if done.previous:
            again = _again(self.source, request.to)
            said.append(Said(f"  what was live is {done.previous}: `refnet undo {again}` brings it back"))
        return Done(self.planned.to_json() | done.to_json(), tuple(said))


def _again(source: SourceName, to: str | None) -> str:
    """The arguments of an undo."""
    return f"{source} --to URL" if to else source


def _sessions(sessions: tuple[Sessions, ...]) -> str:
    if not sessions:
        return "no sessions"
    return ", ".join(f"{one.count} of {one.user} ({one.application or 'unnamed'})" for one in sessions)


def row(table: dict[str, Any]) -> tuple[str, str, str, str]:
    """A table of the plan as columns: its name, its rows in the artifact and live, and those written since."""
    rows, live, since = (
        "-" if table[key] is None else f"{table[key]:,}" for key in ("rows", "live_rows", "written_since")
    )
    if table["live_rows"] is None and table["live_rows_exact"] is not None:
        live = "unknown"
    about = "" if table["live_rows_exact"] or table["live_rows"] is None else "~"
    return table["name"], rows, about + live, since


def _said(done: Restored, again: str) -> Iterator[Said]:
    """What was done. `again`: the arguments of its undo."""
    passed = sum(finding.outcome is Outcome.PASSED for finding in done.findings)
    yield Said(
        f"{done.destination} is restored from {done.artifact} (of {origin_label(done.origin, done.destination)})"
        f" in {seconds(sum(done.seconds.values()))} ({phases(done.seconds)})"
    )
    if done.findings:
        yield Said(f"  {passed} of {len(done.findings)} comparisons are equal")
    for note in done.notes:
        yield Said(f"  {plain(note)}", always=True)
    if done.previous:
        yield Said(f"  the previous version is {done.previous}: `refnet undo {again}` brings it back")


def _replaced(back: PreviousDatabase) -> str:
    return replaced(back.at, plain(back.mark.artifact), undone=back.why is not MarkState.RESTORED)
