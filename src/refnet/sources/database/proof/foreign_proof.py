"""Proves a foreign dump by loading it into a scratch server.

The expected content was not recorded, so the loaded content is reported, not compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from psycopg import sql

from refnet.catalog.artifact import Finding, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.scratch_resources import free_account
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.postgres.tempdirs import private_folder
from refnet.postgres.walls import advice
from refnet.proof_run import LOADED, ProofOptions, ProofRun, Tables
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.dump_files import UnsupportedDumpError
from refnet.sources.database.restore import create_database
from refnet.sources.database.rows.live_catalog import user_relations
from refnet.sources.database.server_errors import Cause, ServerError
from refnet.sources.database.sql_text import Codec
from refnet.sources.database.workers import Workers

_READ = "the complete file"
_MOST_ROLES = 100
_TABLES = user_relations("n.nspname::text, c.relname::text, pg_table_size(c.oid)", "r", "ORDER BY 1, 2")
_ALL_TABLES = user_relations(
    """n.nspname::text, c.relname::text,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)""",
    "rp",
)


class Dump(Protocol):
    """The interface of a foreign dump for its proof."""

    @property
    def name(self) -> str: ...

    @property
    def proof_major(self) -> int | None: ...

    @property
    def has_foreign_tables(self) -> bool: ...

    def check(self) -> None: ...

    def read_to_end(self, binaries: Binaries, account: Account | None = None) -> None: ...

    def state(self, live: Callable[[], dict[str, Any] | None]) -> dict[str, Any]: ...

    def load(
        self, target: Target, workers: Workers, *, alone: bool = False, account: Account | None = None
    ) -> tuple[str, ...]: ...


def prove(dump: Dump, level: Level, options: ProofOptions) -> Proof:
    """Check `dump` up to `level`; `restored` is the highest level that it reaches."""
    try:
        major = dump.proof_major
    except RefnetError as error:
        return Proof(level, None, (Finding(_READ, _outcome(error), error.message),))
    programs = options.binaries(major, server=level.rank > Level.INTACT.rank)
    return ForeignProver(dump, programs, options).prove(level)


def _outcome(error: RefnetError, *, other_major: bool = False) -> Outcome:
    """FAILED if the dump is at fault, UNVERIFIED if this machine or a server of another major version is."""
    if error.code is Exit.DAMAGED:
        return Outcome.FAILED
    if isinstance(error.__cause__, OSError):  # the disk of the dump
        return Outcome.UNVERIFIED
    unsupported = isinstance(error, UnsupportedDumpError) or (
        isinstance(error, ServerError) and error.cause is Cause.UNSUPPORTED
    )
    return Outcome.UNVERIFIED if unsupported or error.transient or other_major else Outcome.FAILED


class ForeignProver:
    """One proof of one dump, in a scratch server of the programs `binaries`."""

    def __init__(self, dump: Dump, binaries: Binaries, options: ProofOptions) -> None:
        self._dump, self._binaries, self._options = dump, binaries, options
        self._run = ProofRun(progress=options.progress)

    def prove(self, level: Level) -> Proof:
        run = self._run
        if self._is_intact(level) and level is not Level.INTACT:
            try:
                self._in_scratch()
            except psycopg.Error as error:
                why = server_errors.of_server(error, "reading what was loaded").message
                run.add(Finding("the scratch server", Outcome.UNVERIFIED, why))
                run.level = Level.INTACT
        if level is Level.PROVEN and run.level is Level.RESTORED:
            if all(finding.outcome is Outcome.PASSED for finding in run.findings):
                level = Level.RESTORED  # it loads completely, and more cannot be said of it
            run.add(_not_compared(run.rows))
        return run.result(level)

    def _is_intact(self, level: Level) -> bool:
        """Read the dump to its end; an archive is read by its load, if one follows."""
        try:
            with self._run.phases.phase("read the whole file"):
                self._dump.check()
                if level is Level.INTACT:
                    with unprivileged(self._binaries) as (programs, user):
                        self._dump.read_to_end(programs, user)
        except RefnetError as error:
            self._run.add(Finding(_READ, _outcome(error), error.message))
            return False
        self._run.add(Finding(_READ, Outcome.PASSED))
        self._run.level = Level.INTACT
        return True

    def _in_scratch(self) -> None:
        run = self._run
        run.server = f"PostgreSQL {self._binaries.version} ({self._binaries.origin})"
        options = self._options
        with scratch(self._binaries, base=options.base, settings=options.server_settings()) as cluster:
            run.missing_walls = cluster.walls.missing
            if run.missing_walls and not options.trust:
                run.add(Finding(LOADED, Outcome.UNVERIFIED, untrusted(run.missing_walls)))
                return
            try:
                with run.phases.phase("load"):
                    target = self.load(cluster)
            except RefnetError as error:
                other = self._dump.proof_major not in {None, self._binaries.major}
                run.add(Finding(LOADED, _outcome(error, other_major=other), error.message))
                return
            run.add(Finding(LOADED, Outcome.PASSED))
            if self._dump.has_foreign_tables:
                why = "not filled: the dump has foreign tables, whose servers a proof does not reach"
                run.add(Finding("materialized views", Outcome.UNVERIFIED, why))
            run.level = Level.RESTORED
            with run.phases.phase("count"):
                required = self._options.required.check(_columns(target), None)
                run.add(*(one for one in required if one.outcome is Outcome.FAILED))
                run.rows = tuple(_count(target))
            if run.failed:
                run.level = None

    def load(self, cluster: Cluster) -> Target:
        """Load the dump into a new database, again with each role that the server finds missing."""
        roles: list[sql.Identifier] = []
        superusers = 0  # of `roles`
        workers = Workers(cluster.binaries, self._options.jobs, self._options.progress)
        for number in range(_MOST_ROLES):
            target = cluster.target(f"proof_{number}")
            with cluster.target().connect() as admin:
                create_database.create_database(admin, target.name, self._dump.state(lambda: None))
                name = sql.Identifier(target.name)
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
            try:
                self._dump.load(target, workers, alone=True, account=cluster.account)
            except ServerError as error:
                if error.cause is Cause.MISSING_ROLE:
                    roles.append(sql.Identifier(error.subject))
                    changes = [sql.SQL("CREATE ROLE {} NOLOGIN").format(roles[-1])]
                elif error.cause is Cause.OWNER and superusers < len(roles):
                    changes = [sql.SQL("ALTER ROLE {} SUPERUSER").format(one) for one in roles]
                    superusers = len(roles)
                else:
                    raise
            else:
                return target
            with cluster.target().connect() as admin:
                for change in (*changes, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name)):
                    admin.execute(change)
        raise RefnetError(
            f"{self._dump.name} names more than {_MOST_ROLES} roles",
            "Create them on a server and restore it there.",
        )


def untrusted(missing: tuple[str, ...]) -> str:
    return (
        "loading a foreign dump runs its code, and this machine cannot build the isolation layers: "
        f"{', '.join(missing)}. {advice()}, or verify it with --trust"
    )


@contextmanager
def unprivileged(binaries: Binaries) -> Iterator[tuple[Binaries, Account | None]]:
    """For root: an unused user for reading a hostile file, with programs that it can run."""
    if os.geteuid() != 0:
        yield binaries, None
        return
    with free_account() as user, private_folder() as folder:
        folder.chmod(0o711)
        yield (binaries if user.can_enter(binaries.folder) else copied(binaries, folder)), user


def _columns(target: Target) -> Tables:
    with target.connect(READER_SETTINGS) as session:
        codec, _ = Codec.of_server(session)
        return {(schema, name): columns for schema, name, columns in codec.rows(session, _ALL_TABLES)}


def _count(target: Target) -> Iterator[dict[str, Any]]:
    with target.connect(READER_SETTINGS) as session:
        codec, _ = Codec.of_server(session)
        for schema, name, size in codec.rows(session, _TABLES):
            query = b"SELECT count(*) FROM ONLY " + codec.quoted(schema, name)
            (rows,) = session.execute(query).fetchone() or (0,)
            yield {"name": f"{schema}.{name}", "rows": rows, "bytes": size}


def _not_compared(rows: tuple[dict[str, Any], ...]) -> Finding:
    found = f"{plural(len(rows), 'table')} with {plural(sum(row['rows'] for row in rows), 'row')}"
    why = f"{found} were loaded from a foreign dump, which records nothing to compare them with"
    return Finding("content", Outcome.UNVERIFIED, why)
