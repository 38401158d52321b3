"""The undo of the last restore of a database: its plan, the swap that brings the previous version back, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refnet import servers, wiring
from refnet.catalog.manifest import utc
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.formatting import noted, plain, plural, replaced, size
from refnet.postgres.session import Target
from refnet.servers import ActsOn
from refnet.sources.database.admin_session import Session, Statement, admin_session, locked_on_server
from refnet.sources.database.database_restore import database_at, undo_arguments
from refnet.sources.database.plan.restore_facts import RowCount, ServerFacts
from refnet.sources.database.plan.restore_plan import dated_name, hindrances
from refnet.sources.database.restore import previous_databases
from refnet.sources.database.restore.copy_and_swap import Rename, swap
from refnet.sources.database.restore.previous_databases import PreviousDatabase
from refnet.sources.database.restore.server_facts import facts
from refnet.sources.database.rows import live_catalog
from refnet.sources.restoring import RestoreDone, RestoreRequest, RestoreWork, Said
from refnet.store.previous_records import (
    DatabaseMark,
    MarkState,
    PreviousRead,
    PreviousRecord,
    PreviousVersions,
)


@dataclass(frozen=True)
class UndoPlan:
    """The plan of an undo."""

    #: The previous version that becomes live.
    back: PreviousDatabase
    #: Why it may not be what its mark says; only one that was named on the command line has any.
    doubts: tuple[str, ...]
    facts: ServerFacts
    #: What stops the undo.
    problems: tuple[RefnetError, ...]
    #: `schema.table` of the live database → its rows; the newer ones were written since the swap.
    written: Mapping[str, RowCount]
    #: Shown with the plan.
    notes: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether a live database would be replaced."""
        return self.facts.live is not None

    def check(self) -> None:
        """Raise the first problem."""
        if self.problems:
            raise self.problems[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "database": self.facts.database,
            "server": self.facts.server,
            "back": self.back.name,
            "previous_versions": utc(self.back.at),
            "recorded": not self.doubts,
            "doubts": list(self.doubts),
            "notes": list(self.notes),
            "artifact": self.back.mark.artifact,
            "replaces": self.replaces,
            "written_since": {name: rows.newer for name, rows in self.written.items()},
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True)
class Undone:
    """The result of an undo."""

    database: str
    #: The previous version that is live now.
    back: PreviousDatabase
    #: The new name of the database that was live before, if there was one.
    previous: str | None

    def to_json(self) -> dict[str, Any]:
        return {"kept": self.previous}


def plan(target: Target, previous: PreviousVersions, name: str | None = None) -> UndoPlan:
    """Plan an undo of the database of `target`; RefnetError without a previous version.

    Args:
        previous: the records of restores and undos.
        name: a previous version, recorded or not; None: the last recorded one.
    """
    with admin_session(target) as admin:
        return _plan(admin, target, previous, name, count=True)


def undo(
    target: Target, previous: PreviousVersions, name: str | None = None, clock: Clock = Clock()
) -> Undone:
    """Swap the previous version in; the live database becomes a previous version."""
    with admin_session(target) as admin, locked_on_server(admin, target.name):
        decided = _plan(admin, target, previous, name, count=False)
        decided.check()
        back, live = decided.back, target.name
        renames = [Rename(back.name, live, back.oid)]
        statements: list[Statement] = [
            previous_databases.comment_on(live, back.mark.comment),
            previous_databases.limit_of(live, back.mark.limit),
        ]
        if back.mark.template:
            statements.append(previous_databases.template(live, is_template=True))
        before = _record(admin, back, live, clock) if decided.replaces else None
        if before:
            previous.add(before)
            renames.insert(0, Rename(live, before.name, before.oid))
            statements = [*previous_databases.closed(before), *statements]
        swap(admin, target, renames, statements)
        for record in previous_databases.gone(admin, previous.read().records, live):
            previous.forget(record)
        return Undone(live, back, before.name if before else None)


def _record(admin: Session, back: PreviousDatabase, live: str, clock: Clock) -> PreviousRecord:
    """Record of the live database as a previous version."""
    name = previous_databases.free_name(admin, dated_name(live, "undone", clock.local()))
    mark = DatabaseMark(live, MarkState.UNDONE, clock.now(), artifact=back.mark.artifact)
    return previous_databases.record_of(admin, live, name, back.oid, mark)


def _plan(
    admin: Session, target: Target, previous: PreviousVersions, name: str | None, *, count: bool
) -> UndoPlan:
    known = previous.read()
    candidates = previous_databases.of_database(
        previous_databases.marked(admin, known.records), target.name, MarkState.RESTORED, MarkState.UNDONE
    )
    command = f"refnet undo {previous.source}"
    back = _named(candidates, target, name, command) if name else _last(candidates, known, target, command)
    found = facts(admin, target)
    rows = live_catalog.row_counts(target, back.mark.snapshot or None) if count and found.live else {}
    written = {table: one for table, one in rows.items() if one.newer}
    doubts = tuple(_doubts(back, found))
    problems = list(hindrances(found))
    if doubts and not name:
        hint = f"If {back.name} is to become {target.name}: `{command} {back.name}`."
        problems = [RefnetError(doubts[0], hint), *problems]
    others = [f"{one.name} is unknown: {one.doubt}" for one in candidates if one.doubt and one != back]
    return UndoPlan(
        back, doubts if name else (), found, tuple(problems), written, (*known.unreadable, *others)
    )


def _named(
    candidates: tuple[PreviousDatabase, ...], target: Target, name: str, command: str
) -> PreviousDatabase:
    for one in candidates:
        if one.name == name:
            return one
    raise RefnetError(
        f"{name} is not a previous version of {target.name}: it has no record, and its comment is not RefNet's",
        f"`{command} --plan` names them; rename any other database yourself.",
    )


def _last(
    candidates: tuple[PreviousDatabase, ...], known: PreviousRead, target: Target, command: str
) -> PreviousDatabase:
    """The last recorded previous version; RefnetError if there is none."""
    recorded = [one for one in candidates if not one.doubt]
    if recorded:
        return recorded[-1]
    if candidates:
        last = candidates[-1]
        raise RefnetError(
            f"no previous version of {target.name} is recorded; {last.name} is unknown: {last.doubt}",
            f"See `{command} {last.name} --plan`; to bring it back, leave out --plan.",
        )
    raise RefnetError(
        f"{target.name} has no previous version, so there is nothing to undo",
        known.unreadable[0]
        if known.unreadable
        else "A restore keeps the previous version for some days: `refnet list --previous` shows all.",
    )


def _doubts(back: PreviousDatabase, found: ServerFacts) -> Iterator[str]:
    if back.doubt:
        yield f"{back.name} is unknown: {back.doubt}; it belongs to {back.owner}"
    if back.record and found.live and found.live.oid != back.record.live:
        yield (
            f"{found.database} is not the database that replaced {back.name}"
            f" (oid {found.live.oid}, recorded {back.record.live}); it belongs to {found.live.owner}"
        )


class DatabaseUndo(RestoreWork):
    """An undo of the last restore of a database."""

    def __init__(self, context: Context, source: SourceName, request: RestoreRequest) -> None:
        self.source, self.request = source, request
        records = wiring.previous_databases(context.settings, source)
        self.planned: UndoPlan = plan(self._target(context), records, request.previous)
        self.artifact = self.planned.back.mark.artifact
        if not request.to:
            self.acts_on = ActsOn.of(context.settings, source)

    def _target(self, context: Context) -> Target:
        """The database that was restored."""
        to = self.request.to
        return (
            servers.restoring(context.settings, self.source, existing=True) if to is None else database_at(to)
        )

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

    def run(self, context: Context) -> RestoreDone:
        request, live = self.request, self.planned.facts.destination
        target, records = self._target(context), wiring.previous_databases(context.settings, self.source)
        with context.restore_lock(self.source):
            done = undo(target, records, request.previous, context.clock)
        said = [Said(f"{live} is {done.back.name} again: it was live until {_replaced(done.back)}.")]
        if done.previous:
            again = undo_arguments(self.source, request.to)
            said.append(
                Said(f"  the replaced database is now {done.previous}: `refnet undo {again}` brings it back")
            )
        return RestoreDone(self.planned.to_json() | done.to_json(), tuple(said))


def _replaced(back: PreviousDatabase) -> str:
    return replaced(back.at, plain(back.mark.artifact), undone=back.why is not MarkState.RESTORED)
