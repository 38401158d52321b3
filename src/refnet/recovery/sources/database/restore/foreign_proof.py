"""The proof of a dump that RefNet did not make: it loads into a scratch server, or it does not.

That is as far as it goes. Nothing was recorded of what the dump should hold, so what was loaded is said, not compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from refnet.errors import Exit, RefnetError
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import Cluster
from refnet.postgres.free_uid import nobodys_account
from refnet.postgres.scratch import scratch
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.postgres.tempdirs import private_folder
from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.formatting import plural
from refnet.recovery.model.source import Finding, OpenArtifact, Progress, Proof
from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump, NotTakenError
from refnet.recovery.sources.database.artifact.required_tables import NOTHING, Required, Tables
from refnet.recovery.sources.database.restore import create_database
from refnet.recovery.sources.database.restore.proof import Course

_LOAD = "restore into an empty server"
_READ = "the whole file"
_ROLE = re.compile(r'role "(.*)" does not exist')
#: Event triggers, foreign data wrappers and the like belong to superusers alone; such a role has no login.
_NEEDS_SUPERUSER = re.compile(r"permission denied to change owner of")
_MOST_ROLES = 100
#: What a server says of what this machine lacks, rather than of the dump.
_LACKED = re.compile(
    r"is not available|could not open extension control file|could not access file|compression method"
    r"|for encoding|ICU|unsupported version|not supported by this build|No space left|backslash commands"
)
_TABLES = """
SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1, 2
"""
_ALL_TABLES = """
SELECT n.nspname::text, c.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


def prove(
    held: OpenArtifact,
    binaries: Callable[..., Binaries],
    base: Path,
    jobs: int,
    level: Level,
    progress: Progress,
    *,
    required: Required = NOTHING,
    trust: bool = False,
) -> Proof:
    """Check the dump `held` up to `level`; `restored` is as far as it gets.

    Args:
        binaries: the programs of a major or newer (None: any), with a server where `server` is true.
        base: the folder for scratch servers.
        required: what it must hold, once it is loaded.
        trust: load it even where this machine cannot build all walls around the scratch server.
    """
    path = held.path or Path(held.name)
    try:
        dump = ForeignDump(path, None if path.is_dir() else held)
    except RefnetError as error:
        return Proof(level, None, (Finding(_READ, _outcome(error), error.message),))
    programs = binaries(dump.proof_major, server=level.rank > Level.INTACT.rank)
    return _Prover(dump, programs, base, jobs, progress, required=required, trust=trust).prove(level)


def _outcome(error: RefnetError, *, other_major: bool = False) -> Outcome:
    """Failed where the dump is to blame; not where this server lacks something or is of another major."""
    if error.code is Exit.DAMAGED:
        return Outcome.FAILED
    lacked = isinstance(error, NotTakenError) or error.transient or _LACKED.search(error.message)
    return Outcome.UNVERIFIED if lacked or other_major else Outcome.FAILED


class _Prover:
    """One proof of one dump, in a scratch server of the programs `binaries`."""

    def __init__(
        self,
        dump: ForeignDump,
        binaries: Binaries,
        base: Path,
        jobs: int,
        progress: Progress,
        *,
        required: Required,
        trust: bool,
    ) -> None:
        self._dump, self._binaries, self._base = dump, binaries, base
        self._jobs, self._progress, self._trust = jobs, progress, trust
        self._required = required
        self._course = Course()
        self._server = ""
        self._rows: tuple[dict[str, Any], ...] = ()

    def prove(self, level: Level) -> Proof:
        course = self._course
        if self._is_whole(level) and level is not Level.INTACT:
            self._in_scratch()
        if level is Level.PROVEN and course.level is Level.RESTORED:
            course.add(_beyond(self._rows))
        found = tuple(course.findings)
        rows, missing = self._rows, course.missing_walls
        return Proof(level, course.level, found, self._server, course.seconds, rows, missing)

    def _is_whole(self, level: Level) -> bool:
        """Read it to its end; an archive is read by its load, where one follows."""
        course = self._course
        try:
            with course.phase("read the whole file"):
                self._dump.check()
                if level is Level.INTACT:
                    with _nobody(self._binaries) as (programs, user):
                        self._dump.read_whole(programs, user)
        except RefnetError as error:
            course.add(Finding(_READ, _outcome(error), error.message))
            return False
        course.add(Finding(_READ, Outcome.PASSED))
        course.level = Level.INTACT
        return True

    def _in_scratch(self) -> None:
        course = self._course
        self._server = f"PostgreSQL {self._binaries.version} ({self._binaries.origin})"
        with scratch(self._binaries, base=self._base) as cluster:
            course.missing_walls = cluster.walls.missing
            if course.missing_walls and not self._trust:
                course.add(Finding(_LOAD, Outcome.UNVERIFIED, _untrusted(course.missing_walls)))
                return
            try:
                with course.phase("load"):
                    target = self._load(cluster)
            except RefnetError as error:
                other = self._dump.proof_major not in {None, self._binaries.major}
                course.add(Finding(_LOAD, _outcome(error, other_major=other), error.message))
                return
            course.add(Finding(_LOAD, Outcome.PASSED))
            course.level = Level.RESTORED
            with course.phase("count"):
                missing = [one for one in self._required.check(_columns(target), None) if one.reason]
                self._rows = tuple(_counted(target))
            course.add(*missing)
            if missing:
                course.level = None

    def _load(self, cluster: Cluster) -> Target:
        """The database that it was loaded into, begun anew for each role that turns out to be missing."""
        state = self._dump.state(lambda: None)
        roles: list[sql.Identifier] = []
        raised = 0  # so many of them are superusers
        for number in range(_MOST_ROLES):
            target = cluster.target(f"proof_{number}")
            with cluster.target().connect() as admin:
                create_database.create_database(admin, target.name, state)
                name = sql.Identifier(target.name)
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
            try:
                self._dump.load(
                    target, cluster.binaries, self._jobs, self._progress, alone=True, account=cluster.account
                )
            except RefnetError as error:
                role = _ROLE.search(error.message)
                if role:
                    roles.append(sql.Identifier(role[1]))
                    change = sql.SQL("CREATE ROLE {} NOLOGIN").format(roles[-1])
                elif _NEEDS_SUPERUSER.search(error.message) and raised < len(roles):
                    change = sql.SQL("; ").join(
                        sql.SQL("ALTER ROLE {} SUPERUSER").format(one) for one in roles
                    )
                    raised = len(roles)
                else:
                    raise
                with cluster.target().connect() as admin:
                    admin.execute(change)
                    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            else:
                return target
        raise RefnetError(
            f"{self._dump.name} names more than {_MOST_ROLES} roles",
            "Create them on a server and restore it there.",
        )


def _untrusted(missing: tuple[str, ...]) -> str:
    return (
        "RefNet did not make this dump, loading it runs its code, and this machine builds no wall around: "
        f"{', '.join(missing)}. Install bubblewrap, or verify it with --trust"
    )


@contextmanager
def _nobody(binaries: Binaries) -> Iterator[tuple[Binaries, Account | None]]:
    """As whom a program reads a hostile file: for root a user that is nobody's, with programs that it can enter."""
    if os.geteuid() != 0:
        yield binaries, None
        return
    with nobodys_account() as user, private_folder() as folder:
        folder.chmod(0o711)
        yield (binaries if user.can_enter(binaries.folder) else copied(binaries, folder)), user


def _columns(target: Target) -> Tables:
    with target.connect(READER_SETTINGS, encoding="UTF8") as session:
        found = session.execute(_ALL_TABLES).fetchall()
        return {(schema, name): columns for schema, name, columns in found}


def _counted(target: Target) -> Iterator[dict[str, Any]]:
    with target.connect(READER_SETTINGS, encoding="UTF8") as session:
        for schema, name, size in session.execute(_TABLES).fetchall():
            table = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, name))
            (rows,) = session.execute(table).fetchone() or (0,)
            yield {"name": f"{schema}.{name}", "rows": rows, "bytes": size}


def _beyond(rows: tuple[dict[str, Any], ...]) -> Finding:
    found = f"{plural(len(rows), 'table')} with {plural(sum(row['rows'] for row in rows), 'row')}"
    why = f"RefNet did not make this dump, so nothing says whether the {found} that were loaded are all of it"
    return Finding("content", Outcome.UNVERIFIED, why)
