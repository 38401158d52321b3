"""Restores a database: beside the live one, compared, then exchanged; the old one is kept for an undo.

Nothing live is touched before the last step, which is one transaction. A run that fails drops its copy; a run
that is killed leaves it marked, and the next one drops it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import psycopg

from refnet.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.origin import OWN, Permission, Place
from refnet.recovery.model.previous import Mark, Record, Why
from refnet.recovery.model.restore_plan import Facts, Plan, Wanted, dated_name, decide, major
from refnet.recovery.model.source import Finding, Progress, silent
from refnet.recovery.model.timing import Phases
from refnet.recovery.sources.database.admin_session import Session, Statement, alone, maintenance
from refnet.recovery.sources.database.restore import create_database, previous_databases
from refnet.recovery.sources.database.restore.analyze import analyze
from refnet.recovery.sources.database.restore.server_facts import facts, live_state
from refnet.recovery.sources.database.restore.swap_databases import Rename, exchange
from refnet.recovery.sources.database.rows import compare, row_counts
from refnet.recovery.stores.previous_records import PreviousVersions


class Dump(Protocol):
    """What is restored: RefNet's artifact, or a dump that it did not make."""

    @property
    def name(self) -> str: ...

    @property
    def roles(self) -> tuple[dict[str, Any], ...]: ...

    def wanted(self) -> Wanted: ...

    def tools_major(self, server: int) -> int: ...

    def check(self) -> None: ...

    def state(self, live: Callable[[], dict[str, Any] | None]) -> dict[str, Any]: ...

    def load(self, target: Target, binaries: Binaries, jobs: int, progress: Progress) -> tuple[str, ...]:
        """Fill the empty database `target`; what is left to do in it, a sentence each."""
        ...

    def compare(
        self, target: Target, binaries: Binaries, jobs: int, progress: Progress, *, content: bool
    ) -> tuple[Finding, ...]: ...


@dataclass(frozen=True)
class Options:
    """How to restore.

    `content`: compare digests, else row counts alone. `create_roles`: create missing roles; `role_powers`: those too
    that the artifact gives powers. `permission`: from which databases it may be, beside the
    target's own.
    """

    jobs: int
    content: bool = True
    create_roles: bool = False
    role_powers: bool = False
    permission: Permission = OWN


@dataclass(frozen=True)
class Restored:
    """What a restore did. `kept`: the old database, where there was one. `seconds` by phase, in order. `place`: the database
    and its server. `origin`: whose data it holds now; None: nobody recorded that.
    """

    database: str
    artifact: str
    kept: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: dict[str, float]
    place: Place
    origin: Identity | None


def plan(target: Target, dump: Dump, options: Options, *, count: bool) -> Plan:
    """What a restore of `dump` would do; reads, and changes nothing.

    `count`: count the live database's rows, and those of them that were written after the dump.
    """
    wanted = dump.wanted()
    with maintenance(target) as admin:
        there = facts(admin, target, {}).live is not None
        same = wanted.system is not None and wanted.system == row_counts.system_identifier(admin)
        snapshot = wanted.snapshot if same else None
        rows = row_counts.rows(target, snapshot, row_counts.BUDGET if count else 0) if there else {}
        return _decided(wanted, facts(admin, target, rows), options)


def restore(
    target: Target,
    dump: Dump,
    binaries: Callable[[int], Binaries],
    options: Options,
    *,
    previous: PreviousVersions,
    now: Callable[[], datetime],
    clock: Callable[[], float],
    progress: Progress = silent,
) -> Restored:
    """Restore `dump` as the database of `target`, which need not exist; what it replaces is recorded in `previous`.

    RefnetError where the plan has problems, the dump is damaged, the load fails or the copy differs: then
    the live database is as it was, and the copy is gone.
    """
    with maintenance(target) as admin, alone(admin, target.name):
        run = _Run(admin, target, dump, options, previous, now, clock, progress)
        return run.go(binaries)


def _decided(wanted: Wanted, found: Facts, options: Options) -> Plan:
    return decide(
        wanted,
        found,
        create_roles=options.create_roles,
        role_powers=options.role_powers,
        permission=options.permission,
    )


class _Run:
    def __init__(
        self,
        admin: Session,
        target: Target,
        dump: Dump,
        options: Options,
        previous: PreviousVersions,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._admin, self._target, self._dump, self._options = admin, target, dump, options
        self._previous = previous
        self._now, self._progress = now, progress
        self._phases = Phases(clock)
        self._notes: list[str] = []

    def go(self, binaries: Callable[[int], Binaries]) -> Restored:
        with self._phases.phase("check"):
            self._drop_leftovers()
            plan = _decided(self._dump.wanted(), facts(self._admin, self._target, {}), self._options)
            plan.check()
            self._dump.check()
            tools = binaries(self._dump.tools_major(major(plan.facts.version)))
        state = self._dump.state(lambda: live_state(self._target) if plan.replaces else None)
        create_database.create_roles(self._admin, self._dump.roles, plan.create_roles)
        name = self._name("copy")
        with self._dropped_on_failure(name):
            findings = self._fill(name, state, tools)
            with self._phases.phase("swap"):
                old = self._swap(name, state, replaces=plan.replaces)
        unsure = [
            f"could not verify: {f.what}: {f.reason}" for f in findings if f.outcome is Outcome.UNVERIFIED
        ]
        return Restored(
            self._target.name,
            self._dump.name,
            old,
            findings,
            (*plan.notes, *self._notes, *unsure),
            self._phases.seconds,
            plan.facts.place,
            plan.wanted.origin,
        )

    def _fill(self, name: str, state: dict[str, Any], tools: Binaries) -> tuple[Finding, ...]:
        """Make the copy, load it and compare it; RefnetError where it differs."""
        copy, jobs = self._target.database(name), self._options.jobs
        with self._phases.phase("create"):
            create_database.create_database(self._admin, name, state)
            create_database.close_to_others(self._admin, name, state)
            mark = Mark(self._target.name, Why.COPY, self._now(), artifact=self._dump.name)
            previous_databases.open_copy(self._admin, name, mark)
            self._notes += create_database.apply_settings(self._admin, name, state)
        with self._phases.phase("load"):
            self._notes += self._dump.load(copy, tools, jobs, self._progress)
        # Beside each other: ANALYZE is one session that computes, and leaves a core to the comparison.
        with self._phases.phase("compare"), ThreadPoolExecutor(1) as beside:
            analyzed = beside.submit(analyze, copy)
            findings = self._dump.compare(copy, tools, jobs, self._progress, content=self._options.content)
            self._notes += analyzed.result()
        if wrong := compare.failed(findings):
            raise wrong
        # Nobody gets in between the privileges, which let everybody in again, and the exchange.
        self._admin.execute(previous_databases.let_in(name, allow=False))
        self._notes += create_database.finish(self._admin, name, state)
        return findings

    def _swap(self, name: str, state: dict[str, Any], *, replaces: bool) -> str | None:
        """Exchange the copy for the live database; the name of the old one, where there was one."""
        live, copy = self._target.name, oid_of(self._admin, name)
        also: list[Statement] = [
            previous_databases.comment_on(live, previous_databases.own_comment(state["comment"])),
            previous_databases.let_in(live, allow=True),
        ]
        if not replaces:
            exchange(self._admin, self._target, [Rename(name, live, copy)], also)
            return None
        old = previous_versions(self._admin, live, self._name("before"), copy, self._mark())
        self._previous.add(old)
        renames = [Rename(live, old.name, old.oid), Rename(name, live, copy)]
        exchange(self._admin, self._target, renames, [*closed(old), *also])
        forget_gone(self._admin, self._previous, live)
        return old.name

    def _mark(self) -> Mark:
        return Mark(self._target.name, Why.RESTORED, self._now(), artifact=self._dump.name)

    def _drop_leftovers(self) -> None:
        for left in previous_databases.of_database(
            previous_databases.marked(self._admin), self._target.name, Why.COPY
        ):
            previous_databases.drop(self._admin, self._target, left)
            self._notes.append(f"{left.name}, the copy of a run that was killed, is dropped")

    def _name(self, word: str) -> str:
        return free_name(self._admin, dated_name(self._target.name, word, self._now().astimezone()))

    @contextlib.contextmanager
    def _dropped_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            try:
                for copy in (one for one in previous_databases.marked(self._admin) if one.name == name):
                    previous_databases.drop(self._admin, self._target, copy)
            except (RefnetError, psycopg.Error):  # the server is gone as well, or its disk is full
                if isinstance(error, RefnetError):
                    more = f"{error.hint} The copy {name} is still there: the next restore drops it."
                    raise RefnetError(error.message, more, error.code, transient=error.transient) from error
            raise


def free_name(admin: Session, name: str) -> str:
    """`name`, or with a number behind it where a database has it already."""
    there = {row[0] for row in admin.execute("SELECT datname::text FROM pg_database").fetchall()}
    numbered = (f"{name[:60]}_{number}" for number in range(2, 100))
    return next(one for one in (name, *numbered) if one not in there)


def oid_of(admin: Session, name: str) -> int:
    """The oid of the database `name`; RefnetError where it is gone."""
    row = admin.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", (name,)).fetchone()
    if row is None:
        raise RefnetError(f"the database {name} is gone", "Somebody dropped or renamed it: see who.")
    return int(row[0])


def previous_versions(admin: Session, live: str, name: str, successor: int, mark: Mark) -> Record:
    """The record of the database `live` as a previous version under `name`; `successor`: the oid that takes its place."""
    row = admin.execute(
        "SELECT oid::int8, pg_get_userbyid(datdba)::text, pg_current_snapshot()::text,"
        " shobj_description(oid, 'pg_database'), datconnlimit FROM pg_database WHERE datname = %s",
        (live,),
    ).fetchone()
    if row is None:
        raise RefnetError(f"the database {live} is gone", "Somebody dropped or renamed it: see who.")
    oid, owner, snapshot, comment, limit = row
    own = replace(mark, snapshot=snapshot, comment=previous_databases.own_comment(comment), limit=limit)
    return Record(row_counts.system_identifier(admin), name, oid, owner, successor, own)


def closed(record: Record) -> list[Statement]:
    """What is done to a previous version in the exchange: it says what it is, and lets in superusers alone."""
    mark = previous_databases.comment_on(record.name, previous_databases.comment_of(record.mark))
    return [mark, previous_databases.limit_of(record.name, 0)]


def forget_gone(admin: Session, previous: PreviousVersions, database: str) -> None:
    """Remove the records of previous versions of `database` that are not there any more."""
    for record in previous_databases.gone(admin, previous.read().records, database):
        previous.forget(record)
