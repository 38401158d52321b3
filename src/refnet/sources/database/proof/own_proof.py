"""Proves an artifact: loads it like a restore into a scratch server, and compares."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from refnet.catalog.artifact import Finding, Progress, Proof, stopped_by
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Level, Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target
from refnet.proof_run import LOADED, STRUCTURE, ProofOptions, ProofRun, structure
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact import sqlgz
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.pgdump import schema_text
from refnet.sources.database.proof import compare, row_digests
from refnet.sources.database.proof.guarded_schema import Logins, create_empty, create_logins
from refnet.sources.database.proof.reference import Reference
from refnet.sources.database.proof.row_digests import MemberRows
from refnet.sources.database.restore.left_out import LeftOut
from refnet.sources.database.restore.load import How, load
from refnet.sources.database.server_errors import Cause, ServerError
from refnet.sources.database.workers import Checks, Programs, Task, Workers, run_checks

_DATABASE = "proof"
#: The most attempts to load: after each, a role is created that only a value names (regrole, aclitem).
_ATTEMPTS = 10
#: Every index of a large database is read; code of an index must not run for ever.
_AMCHECK = {"statement_timeout": f"{24 * 3_600_000}"}


def rows_of(index: Index) -> tuple[dict[str, Any], ...]:
    """Tables of an artifact, for display."""
    return tuple({"name": table.qualified, "rows": table.rows, "bytes": table.raw} for table in index.tables)


@dataclass(frozen=True)
class _Server:
    """A scratch server for one artifact."""

    cluster: Cluster
    #: None: it lacks an extension.
    logins: Logins | None
    findings: tuple[Finding, ...]


class Prover:
    """Checks one artifact up to a level; connects only to the scratch server that it creates."""

    def __init__(self, reader: Reader, binaries: Binaries, options: ProofOptions) -> None:
        """`binaries`: including a server, of the artifact's major version or newer."""
        self._reader, self._binaries, self._options = reader, binaries, options
        self._workers = Workers(binaries, options.jobs, options.progress)
        self._run = ProofRun(rows=rows_of(reader.index), progress=options.progress)
        self._rows = MemberRows(reader)
        self._left_out: tuple[LeftOut, ...] = ()

    def prove(self, level: Level) -> Proof:
        run, options = self._run, self._options
        scratch_too = level.rank > Level.INTACT.rank and not self._reader.index.partial
        begun = _begun(self._server) if scratch_too else contextlib.nullcontext()
        with self._scratch_failures(), begun as server:
            with run.phases.phase("read every member"):
                found = sqlgz.check_intact(self._reader, options.jobs, options.required, options.progress)
                run.add(*found)
            if all(finding.outcome is Outcome.PASSED for finding in found):
                run.level = Level.INTACT
                if server:
                    self._in_scratch(level, server)
                elif level is not Level.INTACT:
                    why = "the artifact is partial: tables that it refers to are not in it"
                    run.add(Finding(LOADED, Outcome.UNVERIFIED, why))
        return run.result(level)

    @contextlib.contextmanager
    def _scratch_failures(self) -> Iterator[None]:
        """End the proof if the scratch server fails (disk full): that says nothing about the artifact."""
        try:
            yield
        except (RefnetError, psycopg.Error, subprocess.CalledProcessError) as error:
            if isinstance(error, RefnetError) and error.code is Exit.DAMAGED:
                raise
            said = getattr(error, "stderr", b"") or str(error).encode()
            first = said.decode(errors="replace").strip().split("\n")[0]
            self._run.add(Finding("the scratch server", Outcome.UNVERIFIED, first))
        except UnicodeEncodeError:
            why = "the name of a role or a setting is not valid UTF-8"
            self._run.add(Finding(LOADED, Outcome.UNVERIFIED, why))

    @contextlib.contextmanager
    def _server(self) -> Iterator[_Server]:
        """Start a scratch server with an empty database and its roles."""
        index, options = self._reader.index, self._options
        settings = options.server_settings(sum(table.raw for table in index.tables))
        with scratch(self._binaries, base=options.base, settings=settings) as cluster:
            yield _prepared(cluster, index)

    def _in_scratch(self, level: Level, begun: Future[_Server]) -> None:
        run, options, phase = self._run, self._options, self._run.phases.phase
        with phase("start a scratch server"):
            server = begun.result()
            cluster, logins = server.cluster, server.logins
            run.missing_walls = cluster.walls.missing
            run.server = f"PostgreSQL {self._binaries.version} ({self._binaries.origin})"
            run.add(*server.findings)
        if logins is None:
            return
        target = cluster.target(_DATABASE)
        with Reference(self._binaries, logins, self._reader.index) as expected:
            if level is Level.PROVEN and options.jobs > 1:
                expected.begin()
            with phase("load"):
                if not self._load(target, logins):
                    return
            run.level = Level.RESTORED
            if level is not Level.PROVEN:
                return
            with phase("compare"):
                self._compare(expected, target, logins)
            lacks = any(one.fault is Fault.ENVIRONMENT for one in self._left_out)
            if not run.failed and not lacks:
                run.level, run.row_digests = Level.PROVEN, self._rows.index().digests

    def _load(self, target: Target, logins: Logins) -> bool:
        again = partial(renew, logins, _DATABASE, self._reader.index)
        left = _ATTEMPTS
        while True:
            try:
                self._left_out = load(self._reader, target, self._workers, How(logins, self._rows), again)
                break
            except RefnetError as error:
                left -= 1
                if not (left and isinstance(error, ServerError) and error.is_of_role_in_value):
                    self._run.add(self._refused(error))
                    return False
                with logins.as_superuser("postgres").connect(encoding="UTF8") as admin:
                    admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(error.subject)))
                again()
        self._run.add(Finding(LOADED, Outcome.PASSED), *(one.finding for one in self._left_out))
        why = "it reads foreign tables, and a proof connects to no other server"
        for _, name in self._reader.index.foreign_views:
            self._run.add(Finding(f"materialized view {name}", Outcome.UNVERIFIED, why))
        return True

    def _refused(self, error: RefnetError) -> Finding:
        """Finding for a failed load: damage, unless the scratch server or this machine is at fault."""
        found = stopped_by(LOADED, error)
        if not isinstance(error, ServerError):
            return found
        if error.entry:
            found = replace(found, reason=f"{error.entry}: {error.message}")
        if found.whose is not Fault.ENVIRONMENT or error.lacks or not self._same_major:
            return found
        if error.cause is Cause.ROWS or error.in_function:
            return replace(found, reason=f"{error.message}. {error.hint}", fault=Fault.SOURCE)
        return replace(found, outcome=Outcome.FAILED, fault=Fault.DAMAGE)

    @property
    def _same_major(self) -> bool:
        return self._binaries.major == int(self._reader.index.server["version_num"]) // 10_000

    def _compare(self, expected: Reference, target: Target, logins: Logins) -> None:
        """Add the findings of all comparisons, which run beside one another: each alone leaves a core idle."""
        reader, index, jobs = logins.as_reader(_DATABASE), self._rows.index(), self._options.jobs
        workers = replace(self._workers, progress=_as_one("comparing rows", self._options.progress))
        with (
            compare.comparing(reader, index, workers) as rows,
            row_digests.comparing(reader, index, self._binaries.major, workers.progress) as source,
        ):
            run_checks([rows, source, self._whole(expected, target, logins)], jobs, self._run.findings)

    def _whole(self, expected: Reference, target: Target, logins: Logins) -> Checks:
        """Checks of the schema, and then of the structure, whose extension the schema does not have."""
        found: list[Finding] = []
        amcheck = Programs(target.environment(_AMCHECK))
        first = 1 + 2 * sum(table.raw for table in self._reader.index.tables)
        schema = Task(first, lambda: found.extend(self._schema(expected, target)))
        structure = Task(first, lambda: found.append(self._structure(target, amcheck)), after=(schema,))

        def stop() -> None:
            amcheck.stop()
            logins.end_sessions(_DATABASE)
            expected.stop()

        return Checks((schema, structure), stop, lambda: found)

    def _schema(self, expected: Reference, target: Target) -> Iterator[Finding]:
        """Compare the schema: the members' plain text with the archive's, the copy's with pg_restore's."""
        if self._same_major:
            yield _plain_text(self._binaries, self._reader, expected.path)
        same = expected.equals(target, self._left_out)
        outcome = Outcome.PASSED if same else Outcome.FAILED if self._same_major else Outcome.UNVERIFIED
        why = "" if same else "it differs from what pg_restore makes of the same archive"
        yield Finding("schema", outcome, why)

    def _structure(self, target: Target, programs: Programs) -> Finding:
        """Run amcheck on every heap and B-tree of the artifact; catalogs belong to the scratch server."""
        try:
            tool = self._binaries.tool("pg_amcheck")
        except RefnetError:
            return Finding(STRUCTURE, Outcome.UNVERIFIED, "pg_amcheck is not installed")
        with target.connect() as connection:
            # Before 17 event triggers fire for a superuser as well.
            connection.execute("UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D'")
            known = connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
            ).fetchone()
            if known is None:
                return Finding(STRUCTURE, Outcome.UNVERIFIED, "the server has no extension amcheck")
            connection.execute("CREATE SCHEMA refnet_amcheck")
            connection.execute("CREATE EXTENSION amcheck SCHEMA refnet_amcheck")
        jobs = max(1, self._options.jobs // 2)  # beside the other workers
        command = [str(tool), f"--jobs={jobs}", "--no-password", f"--database={target.name}"]
        return structure(*programs.ended([*command, "--exclude-schema=pg_catalog"]))


@contextlib.contextmanager
def _begun(server: Callable[[], AbstractContextManager[_Server]]) -> Iterator[Future[_Server]]:
    """Begin `server` in a thread of its own beside the block, and end it there: it does not outlive that thread."""
    with ThreadPoolExecutor(1, "server") as thread:
        stack = contextlib.ExitStack()
        try:
            yield thread.submit(lambda: stack.enter_context(server()))
        finally:
            thread.submit(stack.close).result()


def _prepared(cluster: Cluster, index: Index) -> _Server:
    """Create the empty database and its roles, unless an extension is unavailable."""
    with cluster.target().connect() as admin:
        if missing := missing_extensions(admin, index):
            why = f"extensions that are not available on this server: {', '.join(missing)}"
            return _Server(cluster, None, (Finding(LOADED, Outcome.UNVERIFIED, why),))
        logins = create_logins(admin, cluster, index)
        note = create_empty(admin, _DATABASE, index, by_files=True)
    return _Server(cluster, logins, (Finding("locale", Outcome.UNVERIFIED, note),) if note else ())


def _as_one(step: str, progress: Progress) -> Progress:
    """Report all steps of what runs beside one another as the one `step`."""
    parts: dict[str, tuple[int, int]] = {}

    def report(part: str, done: int, total: int | None) -> None:
        parts[part] = (done, total or 0)
        progress(step, *map(sum, zip(*parts.values(), strict=True)))

    return report


def missing_extensions(admin: Session, index: Index) -> list[str]:
    available = {row[0] for row in admin.execute("SELECT name::text FROM pg_available_extensions").fetchall()}
    return [one["name"] for one in index.extensions if one["name"] not in available]


def renew(logins: Logins, name: str, index: Index) -> None:
    """Replace a filled database with an empty one."""
    with logins.as_superuser("postgres").connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        create_empty(admin, name, index)


def _plain_text(binaries: Binaries, reader: Reader, archive: Path) -> Finding:
    """Compare the schema text with pg_restore's output for the archive: `zcat | psql` restores that text."""
    what = "schema text of the file"
    key = reader.index.restrict_key
    for kind, section in ((MemberKind.PRE, "pre-data"), (MemberKind.POST, "post-data")):
        text = reader.text(kind)
        if _without_versions(schema_text(binaries, archive, section, key)) not in _without_versions(text):
            return Finding(what, Outcome.FAILED, f"its {section} differs from what the archive gives")
    return Finding(what, Outcome.PASSED)


def _without_versions(text: bytes) -> bytes:
    return b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"-- Dumped "))
