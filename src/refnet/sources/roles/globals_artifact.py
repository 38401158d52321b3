"""Artifacts of the roles and tablespaces of a server: the text of pg_dumpall, compressed.

A proof creates them on a scratch server and compares.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import psycopg
from psycopg import sql

from refnet.catalog.artifact import Finding, Made, Progress, Proof, Turn, at_once, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.core.formatting import some
from refnet.core.processes import run
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.proof_run import LOADED, ProofOptions, ProofRun
from refnet.sources.contents import Artifact
from refnet.sources.database import server_errors
from refnet.sources.roles.global_statements import (
    LONGEST,
    NotGlobalsError,
    Statement,
    StatementKind,
    counted,
    read,
)
from refnet.sources.roles.globals_plan import WantedRoles, comparable, knows_options, merged

_SHOWN = 20
#: A scratch server's tablespaces are inside its own folder.
_SCRATCH_SETTINGS = {"allow_in_place_tablespaces": "on"}
_COUNTS = ("roles", "memberships", "tablespaces", "passwords")
#: Of pg_dumpall, and of gzip.
_SECONDS, _LEVEL = 600.0, 6
#: What ALTER ROLE ALL SET has set.
_OF_ALL = """
SELECT split_part(c, '=', 1) FROM pg_db_role_setting, unnest(setconfig) c WHERE setdatabase = 0 AND setrole = 0 ORDER BY 1
"""
_LEFT_OUT = "pg_dumpall leaves them out (ALTER ROLE ALL SET)"
#: The same text on every server: VALID UNTIL depends on them.
_SAME_TEXT = {"timezone": "UTC", "datestyle": "ISO"}


@dataclass(frozen=True)
class GlobalsMaker:
    """The global objects of a server."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    #: Include the SCRAM verifiers of passwords.
    passwords: bool = False

    def digesting(self, up_to: int) -> None:  # noqa: ARG002  # the interface's
        return None

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        target = self.target()
        with target.connect(READER_SETTINGS, encoding="UTF8") as session:
            binaries = self.binaries(server_version(session))
            row = session.execute(
                "SELECT now(), current_setting('server_version_num')::int, current_setting('server_version')"
            ).fetchone()
            of_all = [name for (name,) in session.execute(_OF_ALL).fetchall()]
        assert row is not None  # noqa: S101  # for the type checker
        moment, number, version = row
        progress("roles and tablespaces", 0, None)
        text = dumped(binaries, target, passwords=self.passwords)
        turn()
        try:
            text, dropped = without_weak_passwords(text)
            counts = counted(read(text))
        except NotGlobalsError as error:
            raise RefnetError(
                f"the roles of the server at {target.address} cannot be backed up: {error}",
                "Rename the role or the tablespace with the unusual name, then retry.",
            ) from None
        out.write(gzip.compress(text.encode(), _LEVEL, mtime=0))
        return Made(
            created=moment,
            details={"server_version": version, "server_version_num": number, **counts},
            unchecked=(
                *(
                    f"the password of the role {one} is left out: it is not a SCRAM verifier"
                    for one in dropped
                ),
                *(
                    [f"settings of all roles are not in the backup, as {_LEFT_OUT}: {some(of_all)}"]
                    if of_all
                    else []
                ),
            ),
        )


def without_weak_passwords(text: str) -> tuple[str, tuple[str, ...]]:
    """`text` with only SCRAM password verifiers, and the roles whose passwords were dropped."""
    dropped, pieces, at = [], [], 0
    for statement in read(text):
        if statement.kind is not StatementKind.ATTRIBUTES or "PASSWORD" not in statement.tokens:
            continue
        password = statement.tokens[statement.tokens.index("PASSWORD") + 1]
        begin = text.index(f" PASSWORD {password}", at)
        end = begin + len(f" PASSWORD {password}")
        if not password.startswith("'SCRAM-SHA-256$"):
            pieces.append(text[at:begin])
            dropped.append(statement.subject)
        else:
            pieces.append(text[at:end])
        at = end
    return "".join((*pieces, text[at:])), tuple(dropped)


def dumped(binaries: Binaries, target: Target, *, passwords: bool = False) -> str:
    """Output of pg_dumpall --globals-only; RefnetError if the server rejects it, or a name is not UTF-8.

    passwords: include password verifiers; requires read access to pg_authid.
    """
    tool = binaries.tool("pg_dumpall")
    left_out = [] if passwords else ["--no-role-passwords"]
    command: list[str | Path] = [tool, "--globals-only", "--no-password", "--encoding=UTF8", *left_out]
    ran = run(command, _SECONDS, env=target.environment(_SAME_TEXT), capture_output=True)
    if ran.returncode:
        raise server_errors.of_program("pg_dumpall", ran.stderr, "pg_dumpall failed")
    try:
        return str(ran.stdout, "utf-8")
    except UnicodeDecodeError:
        raise RefnetError(
            f"the server at {target.address} has a role or a tablespace whose name is not UTF-8",
            "Rename it (ALTER ROLE … RENAME TO …), then retry.",
        ) from None


class GlobalsArtifact(Artifact):
    """The roles and tablespaces of a server."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Its statements; RefnetError (DAMAGED) as `wanted`."""
        return self.wanted.statements

    @cached_property
    def wanted(self) -> WantedRoles:
        """Its roles, from bytes that its manifest names; RefnetError (DAMAGED) if unreadable, or with other statements."""
        try:
            with self.stored.open() as file:
                packed = file.read(LONGEST + 1)
            found_sha256, manifest = sha256(packed).hexdigest(), self.stored.manifest
            if manifest and found_sha256 != manifest.sha256:
                raise NotGlobalsError("its SHA-256 differs from its manifest's")
            with gzip.GzipFile(fileobj=BytesIO(packed)) as stream:
                text = stream.read(LONGEST + 1)
            if len(text) > LONGEST:
                raise NotGlobalsError(f"it is larger than {LONGEST >> 20} MiB")
            if not (found := tuple(read(text.decode()))):
                raise NotGlobalsError("it is empty")
        except (OSError, EOFError, zlib.error, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # gzip's own have no number
                raise RefnetError(
                    f"{self.name} cannot be read: {error.strerror}", "Check the disk, and retry."
                ) from error
            raise self.damaged(error) from None
        return WantedRoles(self.name, found_sha256, found)

    def describe(self, created: datetime, /) -> Made | None:
        return Made(created, counted(self.statements))

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check it. Everything is created by one superuser: no code of a role runs."""
        run = ProofRun(progress=options.progress)
        with run.phases.phase("read every statement"):
            counts = counted(self.statements)
            run.rows = tuple({"kind": kind, "count": counts[kind], "bytes": 0} for kind in _COUNTS)
            run.add(self._as_counted(counts))
        if not run.failed:
            run.level = Level.INTACT
            if level.rank > Level.INTACT.rank:
                self._in_scratch(run, level, options)
        return run.result(level)

    def _as_counted(self, counts: dict[str, int]) -> Finding:
        manifest = self.stored.manifest
        recorded = {kind: manifest.details.get(kind) for kind in _COUNTS} if manifest else counts
        same = recorded == counts
        reason = "" if same else f"it has {counts}, the manifest says {recorded}"
        return Finding("number of roles and tablespaces", Outcome.PASSED if same else Outcome.FAILED, reason)

    def _in_scratch(self, run: ProofRun, level: Level, options: ProofOptions) -> None:
        manifest = self.stored.manifest
        number = manifest.details.get("server_version_num") if manifest else None
        major = number // 10_000 if type(number) is int else None
        binaries = options.binaries(major, server=True)
        settings = {**options.server_settings(0), **_SCRATCH_SETTINGS}
        with scratch(binaries, base=options.base, settings=settings) as cluster:
            run.missing_walls = cluster.walls.missing
            run.server = f"PostgreSQL {binaries.version} ({binaries.origin})"
            with run.phases.phase("load"):
                blame = Outcome.FAILED if major == binaries.major else Outcome.UNVERIFIED
                wanted = merged(self.statements)
                failures = [Finding(LOADED, blame, reason) for reason in _load(cluster, wanted)]
                run.add(*(failures[:_SHOWN] or [Finding(LOADED, Outcome.PASSED)]))
            if failures:
                return
            run.level = Level.RESTORED
            if level is Level.PROVEN:
                with run.phases.phase("compare"):
                    run.add(_compared(cluster, binaries, wanted))
                labels = sum(one.kind is StatementKind.LABEL for one in self.statements)
                if labels:
                    why = "a scratch server has no provider of labels"
                    run.add(Finding(f"{labels} security labels", Outcome.UNVERIFIED, why))
                if all(one.outcome is Outcome.PASSED for one in run.findings):
                    run.level = Level.PROVEN


def _load(cluster: Cluster, statements: tuple[Statement, ...]) -> list[str]:
    """Run the statements; return errors. No transaction, because CREATE TABLESPACE allows none."""
    failures = []
    with cluster.target().connect(encoding="UTF8") as session:
        for one in statements:
            if one.kind in {StatementKind.SESSION, StatementKind.LABEL}:
                continue
            try:
                session.execute(sql.SQL(_in_place(one)))  # read strictly before
            except psycopg.Error as error:
                if server_errors.is_servers(error.sqlstate):
                    raise server_errors.of_server(error, "creating roles on the scratch server") from error
                failures.append(f"{one.kind} {one.subject}: {error.diag.message_primary or error}")
    return failures


def _in_place(statement: Statement) -> str:
    if statement.kind is StatementKind.TABLESPACE:
        return " ".join((*statement.tokens[:-1], "''"))
    return statement.sql


def _compared(cluster: Cluster, binaries: Binaries, statements: tuple[Statement, ...]) -> Finding:
    """Compare with pg_dumpall's output for the scratch server."""
    there = tuple(read(dumped(binaries, cluster.target(), passwords=True)))
    options = knows_options(statements) and knows_options(there)
    found = _values(there, options=options)
    own = {one for one in found if one[1] == cluster.superuser}
    expected = _values(statements, options=options)
    differing = sorted({f"{kind} {subject}" for kind, subject, _ in expected ^ (found - own)})
    reason = f"different on the scratch server: {some(differing)}" if differing else ""
    return Finding("every role and tablespace", Outcome.FAILED if differing else Outcome.PASSED, reason)


def _values(
    statements: Iterable[Statement], *, options: bool
) -> set[tuple[StatementKind, str, tuple[str, ...]]]:
    left_out = {StatementKind.SESSION, StatementKind.LABEL}
    return {
        (one.kind, one.subject, comparable(one, options=options))
        for one in statements
        if one.kind not in left_out
    }
