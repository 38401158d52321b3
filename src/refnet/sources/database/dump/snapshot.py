"""A consistent snapshot of a database: lock every table first, then take and export the snapshot.

A snapshot taken before the locks can see a table that TRUNCATE or a rewriting ALTER emptied meanwhile as
empty, without an error. LOCK as the first statement of a transaction takes no snapshot, so the order is: list,
lock, snapshot, list again under it, and retry if the two lists differ. A table that was rewritten before it was
locked needs no retry: the snapshot is younger.

The clock of the server dates the snapshot, this machine's all else; they are compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import psycopg

from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import READER_SETTINGS, Target, reader_settings, server_version
from refnet.sources.database import rights, server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.rows.live_catalog import DUMPED, OF_EXTENSION, PREPARED, user_relations
from refnet.sources.database.sql_text import Codec

_TRIES = 10
_LOCKS_AT_ONCE = 500
#: Timeout of a lock, in seconds.
LOCK_SECONDS = 60


def _tables(sizes: str) -> str:
    return user_relations(
        f"""c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
        c.relkind = 'r' AND NOT {OF_EXTENSION}
        AND EXISTS (SELECT FROM pg_am am WHERE am.oid = c.relam AND amname = 'heap'), {sizes}""",
        "rp",
        f"AND {DUMPED} ORDER BY n.nspname, c.relname",
    )


#: Every table whose rows pg_dump writes; and the same without sizes, for which the server opens each table (its index of
#: TOAST too with pg_table_size, which takes twice as long).
_TABLES = _tables(
    "CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0) ELSE 0 END,"
    "CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END"
)
_UNMEASURED = _tables("0::int8, 0::int8")

#: Everything below a table partitioned by a hash on an enum: COPY of such a leaf into another database fails.
_BELOW_ENUM_HASH = """
WITH RECURSIVE below AS (
    SELECT p.partrelid AS oid FROM pg_partitioned_table p
    WHERE p.partstrat = 'h' AND EXISTS (
        SELECT FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod
        WHERE o.opcname = 'enum_ops' AND a.amname = 'hash' AND o.oid = ANY (p.partclass))
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN below b ON i.inhparent = b.oid)
SELECT oid::int8 FROM below
"""

#: Of what a query plans for a table: expressions of its indexes and statistics.
_WITH_EXPRESSIONS = """
SELECT indrelid::int8 FROM pg_index WHERE (indexprs IS NOT NULL OR indpred IS NOT NULL) AND indrelid >= 16384
UNION SELECT stxrelid::int8 FROM pg_statistic_ext WHERE stxexprs IS NOT NULL
"""
#: Each partition and its parent.
PARENTS = """
SELECT i.inhrelid::int8, i.inhparent::int8 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
"""
_COLUMNS = """
SELECT attrelid::int8, attname::text FROM pg_attribute
WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attrelid, attnum
"""
_KEYS = """
SELECT indrelid::int8, coalesce(k.oid, i.indexrelid)::int8 FROM pg_index i
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = i.indrelid
WHERE indrelid = ANY (%s::oid[])
"""
_FOREIGN_KEYS = """
SELECT conrelid::int8, oid::int8, confrelid::int8 FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid = ANY (%s::oid[])
"""

#: An exclusive lock on a table, and the session that holds it or waits for it.
_EXCLUSIVE_LOCK = f"""
SELECT l.relation::regclass::text, l.pid, coalesce({PREPARED}, left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100))
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation >= 16384
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.granted DESC LIMIT 1
"""  # noqa: S608  # of constants

#: The listed tables changed before they were locked, or another session and this one waited for each other.
_CHANGED_MEANWHILE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.WrongObjectType,
    psycopg.errors.DeadlockDetected,
)


@dataclass(frozen=True)
class DumpedRelation:
    """A table at the snapshot."""

    oid: int
    schema: str
    name: str
    #: As in pg_class: relkind and relpersistence.
    kind: str
    persistence: str
    #: An ordinary heap that belongs to no extension.
    plain_heap: bool
    #: Bytes, TOAST included, maps of free space and the like left out.
    size: int
    #: Of the main fork.
    pages: int

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.oid, self.schema, self.name, self.kind)


@dataclass(frozen=True)
class OpenSnapshot:
    """An exported snapshot, valid as long as the control connection lives."""

    control: psycopg.Connection[tuple[Any, ...]]
    target: Target
    #: The name by which other sessions import it.
    id: str
    #: When it was taken, by the server's clock.
    moment: Any
    #: The server's major version.
    major: int
    encoding: str
    codec: Codec
    relations: tuple[DumpedRelation, ...]

    @property
    def reader_settings(self) -> Mapping[str, str]:
        return reader_settings(self.major)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a catalog query in the snapshot, every text decoded."""
        return self.codec.rows(self.control, query, values or None)

    def heaps(self, at_least: int) -> tuple[DumpedRelation, ...]:
        """Return the tables of `at_least` bytes that can be copied in ranges of ctid."""
        found = [r for r in self.relations if r.plain_heap and r.persistence == "p" and r.size >= at_least]
        below_enum = {row[0] for row in self.rows(_BELOW_ENUM_HASH)}
        with_columns = {row[0] for row in self.rows(_COLUMNS, [r.oid for r in found])}
        left = below_enum | self.unplanned
        return tuple(r for r in found if r.oid not in left and r.oid in with_columns)

    @cached_property
    def unplanned(self) -> frozenset[int]:
        """Tables that no query can read without a search path: a function of an index needs it. COPY of a table can."""
        tables = {r.oid: r for r in self.relations}
        with_expressions = [oid for (oid,) in self.rows(_WITH_EXPRESSIONS) if oid in tables]
        return frozenset(oid for oid in with_expressions if not self._plans(tables[oid]))

    def _plans(self, relation: DumpedRelation) -> bool:
        try:
            with self.control.transaction():
                name = self.codec.quoted(relation.schema, relation.name)
                self.control.execute(b"EXPLAIN SELECT FROM ONLY " + name)
        except (psycopg.ProgrammingError, psycopg.DataError):
            return False
        return True

    def columns(self, relations: tuple[DumpedRelation, ...]) -> dict[int, tuple[str, ...]]:
        """Return each relation's columns that are not generated, in order."""
        found: dict[int, list[str]] = {}
        for oid, name in self.rows(_COLUMNS, [r.oid for r in relations]):
            found.setdefault(oid, []).append(name)
        return {oid: tuple(names) for oid, names in found.items()}

    def keys(
        self, relations: tuple[DumpedRelation, ...]
    ) -> tuple[dict[int, tuple[int, ...]], dict[int, dict[str, int]]]:
        """Return each relation's indexes and key constraints, and its foreign keys, by oid."""
        oids = [r.oid for r in relations]
        keys: dict[int, tuple[int, ...]] = {}
        for table, key in self.rows(_KEYS, oids):
            keys[table] = (*keys.get(table, ()), key)
        foreign: dict[int, dict[str, int]] = {}
        for table, key, referred in self.rows(_FOREIGN_KEYS, oids):
            foreign.setdefault(table, {})[str(key)] = referred
        return keys, foreign

    def chosen(self, names: tuple[str, ...]) -> tuple[DumpedRelation, ...]:
        """Return the tables that `names` (`table` or `schema.table`) mean, partitions included.

        RefnetError (USAGE) if a name means no table or several.
        """
        picked = {relation.oid: relation for relation in map(self._named, names)}
        parents = dict(self.rows(PARENTS)) if names else {}
        while below := {
            r.oid: r for r in self.relations if r.oid not in picked and parents.get(r.oid) in picked
        }:
            picked |= below
        return tuple(r for r in self.relations if r.oid in picked)

    def _named(self, name: str) -> DumpedRelation:
        found = [r for r in self.relations if name in (r.name, f"{r.schema}.{r.name}")]
        if len(found) > 1:
            found = [r for r in found if r.schema == "public"] or found
        if len(found) != 1:
            what = "is not there" if not found else "is in more than one schema"
            raise RefnetError(
                f"the table '{name}' {what}",
                "`refnet database sizes` lists the tables; name it schema.table.",
                Exit.USAGE,
            )
        return found[0]

    def check_alive(self) -> None:
        """Raise RefnetError if the control session, and with it the snapshot and the locks, is gone."""
        try:
            self.control.execute("SELECT 1")
        except psycopg.Error as error:
            raise RefnetError(
                "the server ended the session of the snapshot",
                "Nothing was published. Check the server's log for the reason, then retry.",
                transient=True,
            ) from error


@contextlib.contextmanager
def open_snapshot(target: Target, *, entire: bool = True) -> Iterator[OpenSnapshot]:
    """Lock every table of the database `target`, then take a snapshot; both last until the end of the block.

    RefnetError if the role may not read the tables or, with `entire`, anything else that a dump reads.
    """
    settings = {**READER_SETTINGS, "lock_timeout": f"{LOCK_SECONDS * 1000:.0f}"}
    with _explained(), target.connect(settings, autocommit=True) as control:
        major = server_version(control)
        if major < 14:
            raise RefnetError(
                f"the server is PostgreSQL {major}; RefNet backs up 14 and newer", "Upgrade the server first."
            )
        codec, encoding = Codec.of_server(control)
        rights.check_readable(control, target, codec, entire=entire)
        for _ in range(_TRIES):
            try:
                taken = _try(control, codec)
            except psycopg.errors.LockNotAvailable as error:
                control.rollback()
                raise _lock_timeout(control, codec) from error
            if taken:
                snapshot, moment, relations = taken
                yield OpenSnapshot(control, target, snapshot, moment, major, encoding, codec, relations)
                return
        raise RefnetError(
            f"tables were created, dropped or rewritten during each of {_TRIES} attempts to take a snapshot",
            "Retry when fewer schema changes are made.",
            transient=True,
        )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the control session into RefnetErrors."""
    try:
        yield
    except psycopg.Error as error:
        raise server_errors.of_server(error, "reading the database") from error


def _try(
    control: psycopg.Connection[tuple[Any, ...]], codec: Codec
) -> tuple[str, Any, tuple[DumpedRelation, ...]] | None:
    """Return the name of the snapshot, its moment and its tables; None if tables changed meanwhile."""
    before = _relations(control, codec, _UNMEASURED)
    control.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        for at in range(0, len(before), _LOCKS_AT_ONCE):
            some = before[at : at + _LOCKS_AT_ONCE]
            names = b", ".join(b"ONLY " + codec.quoted(r.schema, r.name) for r in some)
            control.execute(b"LOCK TABLE " + names + b" IN ACCESS SHARE MODE")
    except _CHANGED_MEANWHILE:
        control.execute("ROLLBACK")
        return None
    except psycopg.errors.OutOfMemory as error:
        raise RefnetError(
            f"the server cannot lock {len(before)} tables at once",
            "Raise max_locks_per_transaction and restart it.",
        ) from error
    ((snapshot, moment),) = codec.rows(control, "SELECT pg_export_snapshot(), statement_timestamp()")
    after = _relations(control, codec, _TABLES)
    if [r.identity for r in before] != [r.identity for r in after]:
        control.execute("ROLLBACK")
        return None
    return snapshot, moment, after


def _lock_timeout(control: psycopg.Connection[tuple[Any, ...]], codec: Codec) -> RefnetError:
    """Error naming a session that has an exclusive lock, or waits for one and blocks others."""
    table, pid, what = next(iter(codec.rows(control, _EXCLUSIVE_LOCK)), ("A table", None, ""))
    who = f"process {pid} has or waits for an exclusive lock ({what})"
    if not pid:
        who = f"the prepared transaction {what} has locked it" if what else "another session has locked it"
    return RefnetError(
        f"{table} could not be locked within {LOCK_SECONDS} s: {who}",
        "Wait for it to end, or end it (pg_terminate_backend, ROLLBACK PREPARED), and retry.",
    )


def _relations(
    control: psycopg.Connection[tuple[Any, ...]], codec: Codec, query: str
) -> tuple[DumpedRelation, ...]:
    return tuple(DumpedRelation(*row) for row in codec.rows(control, query))


#: Synchronized clocks differ by less.
_TOLERANCE = timedelta(minutes=1)


def clock_warnings(session: Session, now: Callable[[], datetime]) -> tuple[str, ...]:
    """Return a sentence if the clock of the server disagrees with `now`."""
    before = now()
    row = session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    after = now()
    server = row[0] if row else before.timestamp()
    return clock_disagreement(server, before.timestamp(), after.timestamp())


def clock_disagreement(server: float, before: float, after: float) -> tuple[str, ...]:
    """Return a sentence if `server` is more than _TOLERANCE before `before` or after `after`; all in s since 1970."""
    off = server - min(max(server, before), after)
    if abs(off) <= _TOLERANCE.total_seconds():
        return ()
    side = "ahead of" if off > 0 else "behind"
    return (
        f"the server's clock is {formatting.age(timedelta(seconds=abs(off)))} {side} this machine's: set both by the same time server",
    )
