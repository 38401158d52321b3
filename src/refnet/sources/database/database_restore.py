"""The restore of a database as it is asked for: its target, its plan as text, its hooks and lock, its result.

`plan/restore_plan.py` decides what it would do, and `restore/copy_and_swap.py` does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from refnet import local_postgres, servers, wiring
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.catalog import continued
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Outcome
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import compared, local, noted, phases, plain, seconds, size
from refnet.postgres.session import Target
from refnet.servers import ActsOn
from refnet.settings import Settings
from refnet.sources import hooks, source_of
from refnet.sources.base import Permits
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import open_database
from refnet.sources.database.plan.restore_facts import (
    Destination,
    LiveSessions,
    Permission,
    Where,
    check_name,
    origin_label,
)
from refnet.sources.database.plan.restore_plan import DatabasePlan, PlanOptions
from refnet.sources.database.restore import copy_and_swap
from refnet.sources.database.restore.copy_and_swap import Dump, Resources, Restored
from refnet.sources.database.restore.left_out import LEFT_OUT
from refnet.sources.hooks import HookAction
from refnet.sources.restore_options import Compare
from refnet.sources.restoring import Columns, RestoreDone, RestoreRequest, RestoreWork, Said

#: Parts of a URL that are secrets.
_SECRETS = ("password", "sslpassword", "oauth_client_secret")


def check(request: RestoreRequest) -> None:
    """Raise RefnetError (USAGE) for conflicting options."""
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


@dataclass(frozen=True)
class DatabaseRestore:
    """The restore of an artifact, or of a foreign dump, as the live database."""

    context: Context
    #: The database of the settings that it is about.
    source: SourceName
    dump: Dump
    target: Target
    options: PlanOptions

    def full_plan(self, *, count: bool, damaged_anyway: bool) -> DatabasePlan:
        """Plan of `run`, with what artifact and hooks add. `count`: count the live rows, and those written after the dump."""
        planned = copy_and_swap.read_and_decide(self.target, self.dump, self.options, count=count)
        stored = self.dump.stored
        refusals = stored.refusals(anyway=damaged_anyway)
        hooked = (f"hook {line}" for line in self.hooks)
        notes = (*stored.notes, *planned.notes, *_left_out(stored), *hooked)
        return replace(planned, problems=(*refusals, *planned.problems), notes=notes, damage=stored.damage)

    @property
    def hooks(self) -> list[str]:
        """Hooks of the restore: none for a database beside the live one or elsewhere."""
        is_live = self.options.where is Where.LIVE
        return hooks.listed(self.context.settings, self.source, HookAction.RESTORE) if is_live else []

    def around(self) -> AbstractContextManager[object]:
        """Run the hooks around a block."""
        if not self.hooks:
            return nullcontext()
        return hooks.around(self.context, self.source, HookAction.RESTORE, self.dump.name)

    def run(self) -> Restored:
        context, settings = self.context, self.context.settings
        binaries, previous = (
            partial(local_postgres.binaries_for, settings),
            wiring.previous_databases(settings, self.source),
        )
        resources = Resources(binaries, previous, context.clock, context.progress, context.swapping)
        with self.around():
            with context.restore_lock(self.source):
                done = copy_and_swap.restore(self.target, self.dump, self.options, resources)
            self._record_origin(
                done.destination, done.origin
            )  # before a hook, which may fail: the next run must know what it finds
        return done

    def resumed(self, token: str) -> bool:
        """Whether the live database is the copy of which a killed run announced the swap by `token`."""
        previous = wiring.previous_databases(self.context.settings, self.source)
        with self.context.restore_lock(self.source):
            if not copy_and_swap.is_swapped(self.target, token, previous):
                return False
            planned = copy_and_swap.read_and_decide(self.target, self.dump, self.options, count=False)
            self._record_origin(planned.facts.destination, planned.wanted.origin)
        return True

    def _record_origin(self, destination: Destination, origin: Identity | None) -> None:
        for place in wiring.lineages(self.context.settings):
            try:
                place.add(destination.identity, origin)
            except RefnetError as error:
                self.context.note(f"the origin of the restored database was not recorded: {error.message}")


def _left_out(stored: OpenArtifact) -> Iterator[str]:
    """Notes about objects that the last proof could not restore unchanged."""
    for what in stored.entry.faulty if stored.entry else ():
        yield f"{what}: no server accepts it as it is, so it is left out; the result says how to complete it by hand"


def plan_before(
    context: Context, source: SourceName, dump: copy_and_swap.Wanting, request: RestoreRequest
) -> DatabasePlan:
    """The plan of a restore of a dump that is not made yet, of the source's own database, as far as it is known."""
    options, (target, before) = _options(context, source, request), _destination(context, source, request)
    is_live = options.where is Where.LIVE
    named = None if is_live else servers.database_name(context.settings, source)
    options = replace(options, permission=Permission(named, before))
    planned = copy_and_swap.read_and_decide(target, dump, options, count=True)
    lines = hooks.listed(context.settings, source, HookAction.RESTORE) if is_live else ()
    return replace(planned, notes=(*planned.notes, *(f"hook {line}" for line in lines)))


def restore_of(
    context: Context, source: SourceName, chosen: OpenArtifact, request: RestoreRequest
) -> DatabaseRestore:
    """The restore that `request` asks for: of all of `chosen`, or, of tables, into the database that is there."""
    dump, options, named = open_database(chosen), _options(context, source, request), request.from_database
    if isinstance(dump, ForeignDump):
        dump.wanted()  # a file that is not a dump starts no server
    if options.where is not Where.LIVE and named is None:
        named = _own_name(context.settings, source, chosen)  # the target has another name
    target, before = _destination(context, source, request)
    return DatabaseRestore(
        context, source, dump, target, replace(options, permission=Permission(named, before))
    )


def _options(context: Context, source: SourceName, request: RestoreRequest) -> PlanOptions:
    """The options of `request`, without the databases whose data may be restored."""
    return PlanOptions(
        request.jobs or context.settings.jobs,
        request.compare is Compare.CONTENT,
        request.create_roles,
        request.role_powers,
        keep_days=context.settings.retention_previous,
        source=source,
        where=Where.NEW if request.new else Where.ELSEWHERE if request.to else Where.LIVE,
        name=request.new,
    )


def _destination(
    context: Context, source: SourceName, request: RestoreRequest
) -> tuple[Target, frozenset[str]]:
    """The database that is written, and the clusters that it continues."""
    if request.to is not None:
        return database_at(request.to), frozenset()
    of_tables = bool(request.tables or request.schemas)
    target = servers.restoring(context.settings, source, existing=of_tables)
    here = source_of(context.settings, source).whose()
    if not isinstance(here, Identity):
        return target, frozenset()
    return target, continued(here, context.store.entries(source)).before


def _own_name(settings: Settings, source: SourceName, chosen: OpenArtifact) -> str | None:
    """Name of the database of `source`, from the settings, else from its artifact."""
    if source == SourceName.DATABASE or source in settings.sources:
        return servers.database_name(settings, source)
    return chosen.entry.identity.database if chosen.entry and chosen.entry.identity else None


def database_at(url: str) -> Target:
    """Database of the URL `--to`; RefnetError (USAGE) if invalid, or with a password."""
    target = Target.from_url(url, "--to")
    if any(target.parts.get(name) for name in _SECRETS):
        raise RefnetError(
            f"--to {target.display}: the URL contains a password, which every user of this machine can read",
            "Leave it out: put the password into ~/.pgpass, or into the variable PGPASSWORD.",
            Exit.USAGE,
        )
    check_name(target.name, "--to")
    return target


class WholeRestore(RestoreWork):
    """A restore of all of a database."""

    title = "restore"
    planned: DatabasePlan

    def __init__(self, restore: DatabaseRestore, request: RestoreRequest) -> None:
        self.restore, self.request = restore, request
        if not request.to:
            self.acts_on = ActsOn.of(restore.context.settings, restore.source)

    def plan(self, context: Context) -> DatabasePlan:  # noqa: ARG002
        request = self.request
        count = request.plan or not request.force
        self.planned = self.restore.full_plan(count=count, damaged_anyway=request.damaged_anyway)
        return self.planned

    def describe(self) -> Iterator[str | Columns]:
        return described(self.planned)

    def question(self) -> str:
        return f"Replace the live database {self.restore.target.display}?" if self.planned.replaces else ""

    def run(self, context: Context) -> RestoreDone:
        permitted = self.planned.replaces or self.request.force
        options = replace(self.restore.options, replace=permitted)
        done = replace(self.restore, context=context, options=options).run()
        source = self.restore.source
        return RestoreDone(done.to_json(), tuple(_said(done, undo_arguments(source, self.request.to))))


def described(plan: DatabasePlan) -> Iterator[str | Columns]:
    """The plan as text."""
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
            f"note: {user} is a superuser, so code in the dump (constraints, domains, functions in indexes) runs with its"
            " rights: see docs/runbook.md, Restore without a superuser"
        )
    yield from noted(plan.notes, plan.problems)


def _sessions(sessions: tuple[LiveSessions, ...]) -> str:
    if not sessions:
        return "no sessions"
    return ", ".join(f"{one.count} of {one.user} ({one.application or 'unnamed'})" for one in sessions)


def row(table: dict[str, Any]) -> tuple[str, str, str, str]:
    """A table of the plan as columns: name, rows in the artifact, live rows, rows written since."""
    rows, live, since = (
        "-" if table[key] is None else f"{table[key]:,}" for key in ("rows", "live_rows", "written_since")
    )
    if table["live_rows"] is None and table["live_rows_exact"] is not None:
        live = "unknown"
    about = "" if table["live_rows_exact"] or table["live_rows"] is None else "~"
    return table["name"], rows, about + live, since


def _said(done: Restored, again: str) -> Iterator[Said]:
    """The result as text. `again`: the arguments of its undo."""
    passed = sum(finding.outcome is Outcome.PASSED for finding in done.findings)
    yield Said(
        f"{done.destination} is restored from {done.artifact} (of {origin_label(done.origin, done.destination)})"
        f" in {seconds(sum(done.seconds.values()))} ({phases(done.seconds)})"
    )
    if done.findings:
        yield Said(f"  {compared(len(done.findings), passed)}")
    for note in done.notes:
        yield Said(f"  {plain(note)}", always=True)
    if done.previous:
        yield Said(f"  the previous version is {done.previous}: `refnet undo {again}` brings it back")


def undo_arguments(source: SourceName, to: str | None) -> str:
    """The arguments of an undo."""
    return f"{source} --to URL" if to else source


def recovery_of(
    context: Context, source: SourceName, chosen: OpenArtifact, permits: Permits
) -> DatabaseRestore:
    """The restore of `chosen` in a recovery."""
    other = permits.from_database if source == SourceName.DATABASE else None
    request = RestoreRequest(create_roles=True, role_powers=permits.powers.everything, from_database=other)
    return restore_of(context, source, chosen, request)


def recover(context: Context, source: SourceName, chosen: OpenArtifact, permits: Permits) -> list[str]:
    """Restore `chosen` in a recovery; return sentences about it."""
    notes = list[str]()
    back = recovery_of(replace(context, note=notes.append), source, chosen, permits).run()
    of = origin_label(back.origin, back.destination)
    left_out = (note for note in back.notes if note.startswith(LEFT_OUT))
    return [
        f"the database {back.destination} is restored from {back.artifact} (of {of})",
        *left_out,
        *notes,
    ]
