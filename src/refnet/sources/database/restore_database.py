"""Restores a database: into a copy beside the live one, which is compared and then swapped in.

Nothing live is touched before the swap, which is one transaction; the old database stays as the previous version. A
run that fails drops its copy; a run that is killed leaves it marked, and the next one drops it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg

from refnet.catalog.artifact import Finding, Progress, silent
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Outcome
from refnet.catalog.previous import Mark, MarkState
from refnet.core.clock import Clock, Phases, rounded
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import Session, Statement, admin_session, restore_lock
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.plan.origin import OWN, Destination, Permission
from refnet.sources.database.plan.restore_facts import Facts, Wanted
from refnet.sources.database.plan.restore_place import Where
from refnet.sources.database.plan.restore_plan import DatabasePlan, dated_name, decide, major
from refnet.sources.database.restore import create_database, previous_databases
from refnet.sources.database.restore.analyze import analyze
from refnet.sources.database.restore.server_facts import facts, live_state
from refnet.sources.database.restore.swap_databases import Rename, swap, terminate
from refnet.sources.database.rows import compare, row_counts
from refnet.sources.database.workers import Workers
from refnet.store.previous_records import PreviousVersions

Dump = DatabaseArtifact | ForeignDump


@dataclass(frozen=True)
class Options:
    """Options of a restore."""

    jobs: int
    #: Compare digests, else row counts alone.
    content: bool = True
    #: Create missing roles.
    create_roles: bool = False
    #: Create those as well that the artifact gives powers.
    role_powers: bool = False
    #: The databases, beside the target's own, whose data may be restored.
    permission: Permission = OWN
    #: How long the previous version is kept, for the plan.
    keep_days: int = 7
    #: The name of the database on the command line, for the plan.
    source: str = "database"
    where: Where = Where.LIVE
    #: The name of the new database, for Where.NEW.
    name: str = ""

    def final(self, target: Target) -> Target:
        """Return the database that the copy of `target` becomes."""
        return target.database(self.name) if self.where is Where.NEW else target


@dataclass(frozen=True)
class Resources:
    """Resources of a restore."""

    #: Returns the client programs for a server's major version.
    binaries: Callable[[int], Binaries]
    #: The records of previous versions.
    previous: PreviousVersions
    clock: Clock = Clock()
    progress: Progress = silent


@dataclass(frozen=True)
class Restored:
    """The result of a restore."""

    database: str
    artifact: str
    #: The name of the database that was replaced, if there was one.
    previous: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    #: By phase, in order.
    seconds: dict[str, float]
    #: The database and its server.
    destination: Destination
    #: The database that the data comes from; None: not recorded.
    origin: Identity | None

    def to_json(self) -> dict[str, Any]:
        return {
            "database": self.database,
            "server": self.destination.server,
            "from_database": self.origin.database if self.origin else None,
            "from_system_identifier": self.origin.system if self.origin else None,
            "artifact": self.artifact,
            "kept": self.previous,
            "seconds": rounded(self.seconds),
            "seconds_in_all": round(sum(self.seconds.values()), 3),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
        }


def plan(target: Target, dump: Dump, options: Options, *, count: bool) -> DatabasePlan:
    """Return what a restore of `dump` would do; change nothing.

    `count`: count the live database's rows, and those that were written after the dump.
    """
    wanted, target = dump.wanted(), options.final(target)
    with admin_session(target) as admin:
        exists = facts(admin, target, {}).live is not None
        same = wanted.system is not None and wanted.system == row_counts.system_identifier(admin)
        snapshot = wanted.snapshot if same else None
        rows = row_counts.rows(target, snapshot, row_counts.BUDGET if count else 0) if exists else {}
        return _decided(wanted, facts(admin, target, rows), options)


def restore(target: Target, dump: Dump, options: Options, resources: Resources) -> Restored:
    """Restore `dump` as the database of `target`, which need not exist; record the previous version.

    RefnetError where the plan has problems, the dump is damaged, the load fails or the copy differs: then the live
    database is unchanged, and the copy is dropped.
    """
    with admin_session(target) as admin, restore_lock(admin, target.name):
        phases = Phases(resources.clock.monotonic, lambda name: resources.progress(name, 0, None))
        return _RestoreRun(admin, target, dump, options, resources, phases).go()


def _decided(wanted: Wanted, found: Facts, options: Options) -> DatabasePlan:
    return decide(
        wanted,
        found,
        create_roles=options.create_roles,
        role_powers=options.role_powers,
        permission=options.permission,
        keep_days=options.keep_days,
        source=options.source,
        where=options.where,
    )


@dataclass
class _RestoreRun:
    """One restore."""

    admin: Session
    target: Target
    dump: Dump
    options: Options
    resources: Resources
    phases: Phases
    notes: list[str] = field(default_factory=list)

    def go(self) -> Restored:
        with self.phases.phase("check"):
            self._drop_leftovers()
            final = self.options.final(self.target)
            plan = _decided(self.dump.wanted(), facts(self.admin, final, {}), self.options)
            plan.check()
            self.dump.check()
            tools = self.resources.binaries(self.dump.tools_major(major(plan.facts.version)))
            workers = Workers(tools, self.options.jobs, self.resources.progress)
        state = self.dump.state(lambda: live_state(self.target) if plan.replaces else None)
        self.notes += create_database.create_roles(self.admin, self.dump.roles, plan.create_roles)
        name = self._name("copy")
        with self._dropped_on_failure(name):
            findings = self._fill(name, state, workers)
            with self.phases.phase("swap"):
                old = self._swap(name, state, replaces=plan.replaces)
                self.notes += self.dump.after_swap(final, workers)
        unsure = [
            f"could not verify: {f.what}: {f.reason}" for f in findings if f.outcome is Outcome.UNVERIFIED
        ]
        return Restored(
            final.name,
            self.dump.name,
            old,
            findings,
            (*plan.notes, *self.notes, *unsure),
            self.phases.seconds,
            plan.facts.destination,
            plan.wanted.origin,
        )

    def _fill(self, name: str, state: dict[str, Any], workers: Workers) -> tuple[Finding, ...]:
        """Create the copy, load it and compare it; RefnetError where it differs."""
        copy = self.target.database(name)

        def again() -> None:
            self._drop(name)
            self._create(name, state)

        with self.phases.phase("create"):
            self.notes += self._create(name, state)
        with self.phases.phase("load"):
            self.notes += self.dump.load(copy, workers, again)
        # In parallel: ANALYZE is one session, and leaves a core to the comparison.
        content = self.options.content
        with (
            self.phases.phase("compare"),
            ThreadPoolExecutor(1) as parallel,
            self._disconnected_on_failure(name),
        ):
            analyzed = parallel.submit(analyze, copy)
            findings = self.dump.compare(copy, workers, content=content)
            self.notes += analyzed.result()
        if wrong := compare.failed(findings):
            raise wrong
        # Nobody connects between the privileges, which allow it again, and the swap.
        self.admin.execute(previous_databases.allow_connections(name, allow=False))
        self.notes += create_database.finish(self.admin, name, state)
        return findings

    def _create(self, name: str, state: dict[str, Any]) -> tuple[str, ...]:
        """Create the empty copy; return notes."""
        create_database.create_database(self.admin, name, state)
        self._record_copy(name)
        create_database.close_to_others(self.admin, name, state)
        previous_databases.open_copy(self.admin, name, self._mark(MarkState.COPY))
        return tuple(create_database.apply_settings(self.admin, name, state))

    def _drop(self, name: str) -> None:
        for copy in (one for one in previous_databases.marked(self.admin) if one.name == name):
            previous_databases.drop(self.admin, self.target, copy)
        self._forget_gone(self.target.name)

    def _swap(self, name: str, state: dict[str, Any], *, replaces: bool) -> str | None:
        """Swap the copy in; return the name of the previous version, if there is one."""
        live, copy = self.options.final(self.target).name, previous_databases.oid_of(self.admin, name)
        also: list[Statement] = [
            previous_databases.comment_on(live, previous_databases.own_comment(state["comment"])),
            previous_databases.allow_connections(live, allow=True),
        ]
        records = self.resources.previous
        if not replaces:
            swap(self.admin, self.target, [Rename(name, live, copy)], also)
            self._forget_gone(self.target.name)
            return None
        old = previous_databases.record_of(
            self.admin, live, self._name("before"), copy, self._mark(MarkState.RESTORED)
        )
        records.add(old)
        renames = [Rename(live, old.name, old.oid), Rename(name, live, copy)]
        swap(self.admin, self.target, renames, [*previous_databases.closed(old), *also])
        self._forget_gone(live)
        return old.name

    def _record_copy(self, name: str) -> None:
        """Record the copy, so that the monitor names it if this run is killed; prune does not look elsewhere."""
        if self.options.where is Where.ELSEWHERE:
            return
        oid, mark = previous_databases.oid_of(self.admin, name), self._mark(MarkState.COPY)
        self.resources.previous.add(previous_databases.record_of(self.admin, name, name, oid, mark))

    def _forget_gone(self, database: str) -> None:
        """Forget the records of `database` whose database is gone, or has another name."""
        records = self.resources.previous
        for record in previous_databases.gone(self.admin, records.read().records, database):
            records.forget(record)

    def _mark(self, why: MarkState) -> Mark:
        return Mark(self.target.name, why, self.resources.clock.now(), artifact=self.dump.name)

    def _drop_leftovers(self) -> None:
        for left in previous_databases.of_database(
            previous_databases.marked(self.admin), self.target.name, MarkState.COPY
        ):
            previous_databases.drop(self.admin, self.target, left)
            self.notes.append(f"{left.name}, the copy of a killed run, was dropped")
            self._forget_gone(self.target.name)

    def _name(self, word: str) -> str:
        return previous_databases.free_name(
            self.admin, dated_name(self.target.name, word, self.resources.clock.local())
        )

    @contextlib.contextmanager
    def _disconnected_on_failure(self, name: str) -> Iterator[None]:
        """Terminate the sessions in the copy where the block fails, so that nobody waits for them."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                terminate(self.admin, [name])
            raise

    @contextlib.contextmanager
    def _dropped_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            try:
                self._drop(name)
            except (RefnetError, psycopg.Error):  # the server is gone as well, or its disk is full
                if isinstance(error, RefnetError):
                    more = f"{error.hint} The copy {name} still exists: the next restore drops it."
                    raise RefnetError(error.message, more, error.code, transient=error.transient) from error
            raise
