"""The proof: an artifact loaded as a restore loads it, into a server that nothing else uses, then compared."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from refnet.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target, server_version
from refnet.postgres.tempdirs import private_folder
from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.source import Finding, Progress, Proof
from refnet.recovery.sources.database.artifact import intact
from refnet.recovery.sources.database.artifact.required_tables import Required
from refnet.recovery.sources.database.artifact.sqlgz import Index, Kind, Reader
from refnet.recovery.sources.database.dump.pgdump import refuses_lz4, schema_text
from refnet.recovery.sources.database.restore import create_database
from refnet.recovery.sources.database.restore.guarded_schema import GuardedSchema
from refnet.recovery.sources.database.restore.load import load
from refnet.recovery.sources.database.restore.schema_archive import Archive
from refnet.recovery.sources.database.restore.scratch_logins import Logins, create_logins
from refnet.recovery.sources.database.rows.compare import compare
from refnet.recovery.sources.database.subprocesses import Programs

_DATABASE = "proof"
_STOCK = "stock"
#: What a server says to a role that lacks a power.
_POWERLESS = re.compile(
    r"permission denied|must be (?:a )?(?:superuser|owner|member)|[Oo]nly superusers|only roles with"
)


@dataclass
class Course:
    """What a proof has found so far, how far that reaches, how long each phase took, and which walls it lacked."""

    findings: list[Finding] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    level: Level | None = None
    missing_walls: tuple[str, ...] = ()

    def add(self, *findings: Finding) -> None:
        self.findings += findings

    @property
    def failed(self) -> bool:
        return any(finding.outcome is Outcome.FAILED for finding in self.findings)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began


def rows_of(index: Index) -> tuple[dict[str, Any], ...]:
    """The tables of an artifact for display."""
    return tuple({"name": table.qualified, "rows": table.rows, "bytes": table.raw} for table in index.tables)


class Prover:
    """Checks one artifact up to a level; connects to no server but the one that it creates."""

    def __init__(
        self,
        reader: Reader,
        binaries: Binaries,
        base: Path,
        jobs: int,
        required: Required,
        progress: Progress,
    ) -> None:
        """`binaries`: with a server, of the artifact's major or newer. `base`: where the scratch server lives."""
        self._reader, self._binaries, self._base = reader, binaries, base
        self._jobs, self._required, self._progress = jobs, required, progress
        self._course = Course()
        self._server = ""

    def prove(self, level: Level) -> Proof:
        course = self._course
        with course.phase("read every member"):
            course.add(*intact.check(self._reader, self._jobs, self._required, self._progress))
        if not course.failed:
            course.level = Level.INTACT
            if level.rank > Level.INTACT.rank and self._can_be_loaded():
                with self._scratch_failures():
                    self._in_scratch(level)
        return self._proof(level)

    def _proof(self, level: Level) -> Proof:
        course, rows = self._course, rows_of(self._reader.index)
        found = tuple(course.findings)
        return Proof(level, course.level, found, self._server, course.seconds, rows, course.missing_walls)

    @contextlib.contextmanager
    def _scratch_failures(self) -> Iterator[None]:
        """A scratch server that gives out, its disk full perhaps, ends the proof and says nothing of the artifact."""
        try:
            yield
        except (RefnetError, psycopg.Error, subprocess.CalledProcessError) as error:
            if isinstance(error, RefnetError) and error.code is Exit.DAMAGED:
                raise
            said = getattr(error, "stderr", b"") or str(error).encode()
            first = said.decode(errors="replace").strip().split("\n")[0]
            self._course.add(Finding("the scratch server", Outcome.UNVERIFIED, first))
        except UnicodeEncodeError:
            why = "the name of a role or a setting holds characters that are no UTF-8"
            self._course.add(Finding("restore into an empty server", Outcome.UNVERIFIED, why))

    def _can_be_loaded(self) -> bool:
        if not self._reader.index.partial:
            return True
        why = "it holds some tables only, without what they refer to"
        self._course.add(Finding("restore into an empty server", Outcome.UNVERIFIED, why))
        return False

    def _in_scratch(self, level: Level) -> None:
        course = self._course
        with contextlib.ExitStack() as stack:
            with course.phase("start a scratch server"):
                cluster = stack.enter_context(scratch(self._binaries, base=self._base))
                course.missing_walls = cluster.walls.missing
                self._server = f"PostgreSQL {self._binaries.version} ({self._binaries.origin})"
                logins = self._prepared(cluster)
            if logins is None:
                return
            target = cluster.target(_DATABASE)
            with course.phase("load"):
                if not self._load(target, logins):
                    return
            course.level = Level.RESTORED
            if level is not Level.PROVEN:
                return
            with course.phase("compare"):
                reader = logins.as_reader(_DATABASE)
                course.add(*compare(reader, self._reader.index, self._binaries, self._jobs, self._progress))
            with course.phase("compare the schema"):
                course.add(*self._schema(logins, target))
            with course.phase("check the structure"):
                course.add(self._structure(target))
            if not course.failed:
                course.level = Level.PROVEN

    def _prepared(self, cluster: Cluster) -> Logins | None:
        """The empty database for the copy and its roles, or None where this server lacks what the artifact needs."""
        index = self._reader.index
        with cluster.target().connect() as admin:
            lacking = _lacking_extensions(admin, index)
            if lacking:
                why = f"this server lacks the extensions {', '.join(lacking)}"
                self._course.add(Finding("restore into an empty server", Outcome.UNVERIFIED, why))
                return None
            logins = create_logins(admin, cluster, index)
            note = _create(admin, _DATABASE, index)
            if note:
                self._course.add(Finding("locale", Outcome.UNVERIFIED, note))
        return logins

    def _load(self, target: Target, logins: Logins) -> bool:
        try:
            load(
                self._reader,
                target,
                self._binaries,
                self._jobs,
                self._progress,
                logins=logins,
            )
        except RefnetError as error:
            # A disk that is full, or a server that went down for it, says nothing of the artifact.
            # A superuser of the source has no power here.
            powerless = _POWERLESS.search(error.message)
            blamed = self._same_major and not error.transient and not powerless
            outcome = Outcome.FAILED if error.code is Exit.DAMAGED or blamed else Outcome.UNVERIFIED
            self._course.add(Finding("restore into an empty server", outcome, error.message))
            return False
        self._course.add(Finding("restore into an empty server", Outcome.PASSED))
        why = "it reads foreign tables, and a proof asks no other server"
        for _, name in self._reader.index.foreign_views:
            self._course.add(Finding(f"materialized view {name}", Outcome.UNVERIFIED, why))
        return True

    @property
    def _same_major(self) -> bool:
        return self._binaries.major == int(self._reader.index.server["version_num"]) // 10_000

    def _schema(self, logins: Logins, target: Target) -> Iterator[Finding]:
        """The members' plain text is the archive's, and the copy's schema is what a stock restore of it gives."""
        reader, index = self._reader, self._reader.index
        with private_folder() as folder:
            archive = folder / "schema.dump"
            archive.write_bytes(index.archive)
            if self._same_major:
                yield _plain_text(self._binaries, reader, archive)
            with logins.as_superuser("postgres").connect() as admin:
                _create(admin, _STOCK, index)
            stock = logins.as_superuser(_STOCK)
            _stock_restore(self._binaries, logins, archive, {oid for oid, _ in index.foreign_views})
            same = _schema_of(self._binaries, stock) == _schema_of(self._binaries, target)
        outcome = Outcome.PASSED if same else Outcome.FAILED if self._same_major else Outcome.UNVERIFIED
        why = "" if same else "it differs from what pg_restore makes of the same archive"
        yield Finding("schema", outcome, why)

    def _structure(self, target: Target) -> Finding:
        """amcheck of every heap and B-tree."""
        what = "structure of tables and indexes (amcheck)"
        try:
            tool = self._binaries.tool("pg_amcheck")
        except RefnetError:
            return Finding(what, Outcome.UNVERIFIED, "there is no pg_amcheck")
        with target.connect() as connection:
            connection.execute(
                "UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D'"
            )  # before 17 they fire
            known = connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
            ).fetchone()
            if known is None:
                return Finding(what, Outcome.UNVERIFIED, "the server has no amcheck")
            connection.execute("CREATE SCHEMA refnet_amcheck")
            connection.execute("CREATE EXTENSION amcheck SCHEMA refnet_amcheck")
        command = [str(tool), f"--jobs={self._jobs}", "--no-password", f"--database={target.name}"]
        ran = subprocess.run(command, env=target.environment(), capture_output=True, check=False)
        outcome = {0: Outcome.PASSED, 2: Outcome.FAILED}.get(ran.returncode, Outcome.UNVERIFIED)
        said = (ran.stdout or ran.stderr).decode(errors="replace").strip().splitlines()
        why = said[0] if said else "pg_amcheck ended without a word"
        return Finding(what, outcome, "" if outcome is Outcome.PASSED else why)


def _lacking_extensions(admin: psycopg.Connection[tuple[Any, ...]], index: Index) -> list[str]:
    available = {row[0] for row in admin.execute("SELECT name::text FROM pg_available_extensions").fetchall()}
    return [one["name"] for one in index.extensions if one["name"] not in available]


def _create(admin: psycopg.Connection[tuple[Any, ...]], name: str, index: Index) -> str:
    """An empty database with the artifact's encoding and locale; what could not be had of them, or ''."""
    state = {**index.database, "owner": None, "tablespace": None}
    note = ""
    try:
        create_database.create_database(admin, name, state)
    except RefnetError as error:
        note = f"C stands in: {error.message}"
        create_database.create_database(admin, name, {**state, "provider": "c", "collate": "C", "ctype": "C"})
    admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    return note


def _plain_text(binaries: Binaries, reader: Reader, archive: Path) -> Finding:
    """The members of schema text hold what pg_restore makes of the kept archive, so `zcat | psql` restores it too."""
    what = "schema text of the file"
    key = reader.index.restrict_key
    for kind, section in ((Kind.PRE, "pre-data"), (Kind.POST, "post-data")):
        text = reader.text(kind)
        if _without_versions(schema_text(binaries, archive, section, key)) not in _without_versions(text):
            return Finding(what, Outcome.FAILED, f"its {section} is not what the kept archive gives")
    return Finding(what, Outcome.PASSED)


def _without_versions(text: bytes) -> bytes:
    return b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"-- Dumped "))


def _stock_restore(binaries: Binaries, logins: Logins, path: Path, unread: set[int]) -> None:
    """The schema by pg_restore alone, without rows; an error (of a view, perhaps) shows as a difference.

    `unread`: the materialized views that stay as they are, by oid.
    """
    target = logins.as_superuser(_STOCK)
    with target.connect() as session:
        server = server_version(session)
        text = schema_text(binaries, path, "pre-data", "refnet")
        archive = Archive(path, binaries, _STOCK, server, refuses_lz4(session, text), tablespaces=False)
    programs, builder = Programs(target.environment()), Programs(logins.as_builder(_STOCK).environment())
    with GuardedSchema(archive, logins, programs, builder) as guarded:
        try:
            guarded.create()
            entries = archive.entries(programs, "post-data")
            guarded.finish([item for item in entries if not (item.is_refresh and item.oid in unread)], 1)
        except RefnetError as error:
            if error.transient:
                raise


def _schema_of(binaries: Binaries, target: Target) -> bytes:
    command = [
        str(binaries.tool("pg_dump")),
        "--schema-only",
        "--no-tablespaces",
        "--restrict-key=refnet",
        target.name,
    ]
    ran = subprocess.run(command, env=target.environment(), capture_output=True, check=True)
    return ran.stdout


def scratch_base(home: Path) -> Path:
    """Where scratch servers live: below RefNet's own folder, else in one of this user's own for temporary files."""
    if os.access(home, os.W_OK) or not home.exists():
        return home / "scratch"
    return Path(tempfile.gettempdir()) / f"refnet-scratch-{os.geteuid()}"
