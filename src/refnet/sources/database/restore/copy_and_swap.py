"""Restores a database: into a copy beside the live one, which is compared and then swapped in.

Nothing live is touched before the swap, which is one transaction; the old database stays as the previous version. A
run that fails drops its copy; a run that is killed leaves it marked, and the next one drops it.

While a swap renames, another session keeps terminating the sessions in its databases: terminating first and renaming
then fails against a pool that reconnects.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import psycopg
from psycopg import errors, sql

from refnet.catalog.artifact import Finding, Progress, silent
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Outcome
from refnet.core.clock import Clock, Phases, rounded
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, Statement, admin_session, locked_on_server
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.plan.restore_facts import Destination, WantedBackup, Where
from refnet.sources.database.plan.restore_plan import DatabasePlan, PlanOptions, dated_name, decide, major
from refnet.sources.database.proof import compare
from refnet.sources.database.restore import create_database, previous_databases
from refnet.sources.database.restore.after_load import analyze
from refnet.sources.database.restore.server_facts import facts, live_state, system_identifier
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.workers import Workers
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousVersions

Dump = DatabaseArtifact | ForeignDump


class Wanting(Protocol):
    """A dump, or one that is not made yet."""

    def wanted(self) -> WantedBackup:
        """What it needs of a server."""


_TRIES = 5
_PAUSE = 0.01  # seconds between two rounds of terminating sessions

#: The server's own workers end by themselves; those of extensions (pg_cron) start again, like the clients of a pool.
_TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_backend_pid()
    AND backend_type NOT IN ('autovacuum worker', 'parallel worker', 'logical replication worker')
"""


@dataclass(frozen=True)
class Resources:
    """Resources of a restore."""

    #: Returns the client programs for a server's major version.
    binaries: Callable[[int], Binaries]
    #: The records of previous versions.
    previous: PreviousVersions
    clock: Clock = Clock()
    progress: Progress = silent
    #: Called before the swap with a token of the copy, see `is_swapped`.
    swapping: Callable[[str], None] = lambda _: None


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


def read_and_decide(target: Target, dump: Wanting, options: PlanOptions, *, count: bool) -> DatabasePlan:
    """Plan a restore of `dump` from what its server says now; changes nothing.

    `count`: count the rows of the live database, and those written after the dump.
    """
    wanted, target = dump.wanted(), _final(target, options)
    with admin_session(target) as admin:
        found = facts(admin, target)
        if found.live:
            same = wanted.system is not None and wanted.system == found.system
            snapshot = wanted.snapshot if same else None
            budget = live_catalog.BUDGET if count else 0
            rows = live_catalog.row_counts(target, snapshot, budget, wanted.tables)
            found = replace(found, live=replace(found.live, tables=rows))
        return decide(wanted, found, options)


def restore(target: Target, dump: Dump, options: PlanOptions, resources: Resources) -> Restored:
    """Restore `dump` as the database of `target`, which need not exist; record the previous version.

    RefnetError if the plan has problems, the dump is damaged, the load fails or the copy differs: the live database is
    unchanged then, and the copy is dropped.
    """
    with admin_session(target) as admin, locked_on_server(admin, target.name):
        phases = Phases(resources.clock.monotonic, lambda name: resources.progress(name, 0, None))
        return _RestoreRun(admin, target, dump, options, resources, phases).go()


def _token(admin: Session, name: str) -> str:
    """The identity of the database `name`: its server's, and its oid."""
    return f"{system_identifier(admin) or ''}/{previous_databases.oid_of(admin, name)}"


def is_swapped(target: Target, token: str, previous: PreviousVersions) -> bool:
    """Whether the live database of `target` is the copy that a restore named by `token` before its swap.

    Then the record of that copy, which a killed restore has left, is forgotten.
    """
    with admin_session(target) as admin, locked_on_server(admin, target.name):
        there = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (target.name,)).fetchone()
        if there is None or _token(admin, target.name) != token:
            return False
        for record in previous_databases.gone(admin, previous.read().records, target.name):
            previous.forget(record)
        return True


def _final(target: Target, options: PlanOptions) -> Target:
    """The database that the copy of `target` becomes."""
    return target.database(options.name) if options.where is Where.NEW else target


@dataclass
class _RestoreRun:
    """One restore."""

    admin: Session
    target: Target
    dump: Dump
    options: PlanOptions
    resources: Resources
    phases: Phases
    notes: list[str] = field(default_factory=list)

    def go(self) -> Restored:
        with self.phases.phase("check"):
            self._drop_leftovers()
            final = _final(self.target, self.options)
            plan = decide(self.dump.wanted(), facts(self.admin, final), self.options)
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
                if not self.dump.is_late:  # what must follow the swap could not be done by another run
                    self.resources.swapping(_token(self.admin, name))
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
        """Create the copy, load and compare it; RefnetError if it differs."""
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
        """Swap the copy in; return the name of the previous version, if any."""
        live, copy = _final(self.target, self.options).name, previous_databases.oid_of(self.admin, name)
        also: list[Statement] = [
            previous_databases.comment_on(live, previous_databases.own_comment(state["comment"])),
            previous_databases.allow_connections(live, allow=True),
        ]
        if state.get("template"):
            also.append(previous_databases.template(live, is_template=True))
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
        """Record the copy, so that the monitor reports it if this run is killed; prune does not look at other servers."""
        if self.options.where is Where.ELSEWHERE:
            return
        oid, mark = previous_databases.oid_of(self.admin, name), self._mark(MarkState.COPY)
        self.resources.previous.add(previous_databases.record_of(self.admin, name, name, oid, mark))

    def _forget_gone(self, database: str) -> None:
        """Forget records of `database` whose database was dropped or renamed."""
        records = self.resources.previous
        for record in previous_databases.gone(self.admin, records.read().records, database):
            records.forget(record)

    def _mark(self, why: MarkState) -> DatabaseMark:
        return DatabaseMark(self.target.name, why, self.resources.clock.now(), artifact=self.dump.name)

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
        """If the block fails, terminate the sessions in the copy, so that nothing waits for them."""
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


@dataclass(frozen=True)
class Rename:
    """A rename of one database."""

    old: str
    new: str
    #: Of the intended database: another one may have its name by now.
    oid: int

    @property
    def statement(self) -> Statement:
        return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
            sql.Identifier(self.old), sql.Identifier(self.new)
        )


def swap(admin: Session, target: Target, renames: Sequence[Rename], also: Sequence[Statement] = ()) -> None:
    """Do `renames` in order and run `also`, in one transaction; nothing is changed on failure.

    Nobody connects to the databases before that: the server delays connections until a rename is committed, and
    earlier sessions are terminated. RefnetError if a name belongs to another than the intended database.
    """
    names = [rename.old for rename in renames]
    with _disconnected(target, names):
        for attempt in range(_TRIES):
            try:
                with admin.transaction():
                    for rename in renames:
                        admin.execute(rename.statement)
                    _check(admin, renames)
                    for statement in also:
                        admin.execute(statement)
            except errors.ObjectInUse as error:
                if attempt == _TRIES - 1:
                    raise _in_use(admin, names) from error
            except errors.DuplicateDatabase as error:
                raise RefnetError(
                    f"a database named {renames[-1].new} was created on the server during the restore",
                    "It was not touched. Drop or rename it, or give another name, then retry.",
                ) from error
            except psycopg.Error as error:
                raise server_errors.of_server(error, "swapping the databases") from error
            else:
                return


def terminate(admin: Session, names: list[str]) -> None:
    """Terminate the other sessions in the databases `names`."""
    admin.execute(_TERMINATE, (names,))


def _check(admin: Session, renames: Sequence[Rename]) -> None:
    """Check the oids of the databases to rename, which are now protected from other renames."""
    found: dict[str, int] = dict(admin.execute("SELECT datname::text, oid::int8 FROM pg_database").fetchall())
    for rename in renames:
        if found.get(rename.new) != rename.oid:
            raise RefnetError(
                f"{rename.old} was replaced by another database before the swap",
                "Stop the program that renames databases on this server, then retry; nothing was changed.",
            )


@contextlib.contextmanager
def _disconnected(target: Target, names: list[str]) -> Iterator[None]:
    """Keep terminating sessions in `names` from a separate session until the block ends."""
    over = threading.Event()

    def keep_terminating() -> None:
        with contextlib.suppress(psycopg.Error):
            while not over.wait(_PAUSE):
                terminate(other, names)

    with admin_session(target) as other:
        thread = threading.Thread(target=keep_terminating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _in_use(admin: Session, names: list[str]) -> RefnetError:
    rows = admin.execute(
        "SELECT coalesce(application_name, ''), usename::text FROM pg_stat_activity WHERE datname = ANY (%s)",
        (names,),
    ).fetchall()
    prepared = admin.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = ANY (%s)", (names,)
    ).fetchall()
    users = [f"the prepared transaction {gid}" for (gid,) in prepared]
    users += [f"a session of {user} ({application or 'unnamed'})" for application, user in rows]
    return RefnetError(
        f"{names[0]} cannot be renamed, it is in use by {', '.join(users) or 'a session that has ended since'}",
        "End what uses it and retry; nothing was changed.",
    )
