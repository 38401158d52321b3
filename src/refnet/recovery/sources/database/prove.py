"""The proof: an artifact loaded as a restore loads it, into a server that nothing else uses, then compared."""

from __future__ import annotations

import contextlib
import os
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
from refnet.postgres.private import private_folder
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.source import Finding, Progress, Proof
from refnet.recovery.sources.database import create, failure, intact, toc
from refnet.recovery.sources.database.compare import compare
from refnet.recovery.sources.database.load import load
from refnet.recovery.sources.database.sqlgz import Index, Kind, Reader
from refnet.recovery.sources.database.stock import refuses_lz4, schema_text, without_lz4

_DATABASE = "proof"
_STOCK = "stock"


@dataclass
class Course:
    """What a proof has found so far, how far that reaches, and how long each phase took."""

    findings: list[Finding] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    level: Level | None = None

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
        required: tuple[str, ...],
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
        return Proof(level, course.level, tuple(course.findings), self._server, course.seconds, rows)

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
                self._server = f"PostgreSQL {self._binaries.version} ({self._binaries.origin})"
                target = self._prepared(cluster)
            if target is None:
                return
            with course.phase("load"):
                if not self._load(target):
                    return
            course.level = Level.RESTORED
            if level is not Level.PROVEN:
                return
            with course.phase("compare"):
                course.add(*compare(target, self._reader.index, self._binaries, self._jobs, self._progress))
            with course.phase("compare the schema"):
                course.add(*self._schema(cluster, target))
            with course.phase("check the structure"):
                course.add(self._structure(target))
            if not course.failed:
                course.level = Level.PROVEN

    def _prepared(self, cluster: Cluster) -> Target | None:
        """The empty database for the copy, or None where this server lacks what the artifact needs."""
        index = self._reader.index
        with cluster.target().connect() as admin:
            lacking = _lacking_extensions(admin, index)
            if lacking:
                why = f"this server lacks the extensions {', '.join(lacking)}"
                self._course.add(Finding("restore into an empty server", Outcome.UNVERIFIED, why))
                return None
            create_roles(admin, index)
            note = _create(admin, _DATABASE, index)
            if note:
                self._course.add(Finding("locale", Outcome.UNVERIFIED, note))
        return cluster.target(_DATABASE)

    def _load(self, target: Target) -> bool:
        try:
            load(
                self._reader,
                target,
                self._binaries,
                self._jobs,
                self._progress,
                tablespaces=False,
            )
        except RefnetError as error:
            # A disk that is full, or a server that went down for it, says nothing of the artifact.
            blamed = self._same_major and not error.passing
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

    def _schema(self, cluster: Cluster, target: Target) -> Iterator[Finding]:
        """The members' plain text is the archive's, and the copy's schema is what a stock restore of it gives."""
        reader, index = self._reader, self._reader.index
        with private_folder() as folder:
            archive = folder / "schema.dump"
            archive.write_bytes(index.archive)
            if self._same_major:
                yield _plain_text(self._binaries, reader, archive)
            with cluster.target().connect() as admin:
                _create(admin, _STOCK, index)
            stock = cluster.target(_STOCK)
            _stock_restore(self._binaries, stock, archive, {oid for oid, _ in index.foreign_views})
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


def create_roles(admin: psycopg.Connection[tuple[Any, ...]], index: Index) -> None:
    """The roles of the artifact, unable to log in: owners and grantees of what is restored."""
    there = {row[0] for row in admin.execute("SELECT rolname::text FROM pg_roles").fetchall()}
    mentioned = [role["name"] for role in index.roles]
    mentioned += [one["role"] for role in index.roles for one in role["member_of"]]
    powers = {role["name"]: role["superuser"] for role in index.roles}
    for name in dict.fromkeys(mentioned):
        if name not in there:
            power = sql.SQL("SUPERUSER" if powers.get(name) else "NOSUPERUSER")
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN {}").format(sql.Identifier(name), power))


def _create(admin: psycopg.Connection[tuple[Any, ...]], name: str, index: Index) -> str:
    """An empty database with the artifact's encoding and locale; what could not be had of them, or ''."""
    state = {**index.database, "owner": None, "tablespace": None}
    note = ""
    try:
        create.create_database(admin, name, state)
    except RefnetError as error:
        note = f"C stands in: {error.message}"
        create.create_database(admin, name, {**state, "provider": "c", "collate": "C", "ctype": "C"})
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


def _stock_restore(binaries: Binaries, target: Target, archive: Path, unread: set[int]) -> None:
    """The schema by pg_restore alone; its errors (a view over something that is not there) show as differences.

    `unread`: the materialized views that stay as they are, by oid.
    """
    tool = str(binaries.tool("pg_restore"))
    listed = subprocess.run([tool, "-l", str(archive)], capture_output=True, check=True)
    items = toc.parse(listed.stdout.decode("utf-8", "surrogateescape"))
    listing = archive.with_suffix(".list")
    kept = [f"{item.line}\n" for item in items if not (item.is_refresh and item.oid in unread)]
    listing.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")
    command = [tool, "--no-tablespaces", "-L", str(listing)]
    with target.connect() as session:
        text = subprocess.run([*command, "--file=-", str(archive)], capture_output=True, check=True).stdout
        without = refuses_lz4(session, text)
    if without:
        psql = [str(binaries.tool("psql")), "-X", "-q", "-o", os.devnull]
        text = without_lz4(text)
        subprocess.run(psql, env=target.environment(), input=text, capture_output=True, check=False)
        return
    command += [f"--dbname={target.name}", str(archive)]
    ran = subprocess.run(command, env=target.environment(), capture_output=True, check=False)
    if failure.passes(ran.stderr.decode(errors="replace")):
        raise failure.of_program("pg_restore", ran.stderr, "the stock restore of the schema")


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
