"""A query: its rows, one after another, within limits of time, rows and bytes; and the relations that it reads.

The scratch server determines the relations from the schema: a temporary view of the query has the dependencies.
Functions with a text body hide theirs: with one of these, or with dynamic SQL, all tables are needed; `touched` names
what was read in the end.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import errors, sql
from psycopg.types.composite import RecordLoader

from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, seconds, size
from refnet.postgres.session import Target
from refnet.sources.contents import AnswerLimits
from refnet.sources.database.admin_session import Session

#: The largest row that is read, in bytes of text: a query, or what a hostile backup made of it, could give gigabytes.
LARGEST_ROW = 16 << 20
#: What the server gets beyond the time limit to end a query by itself; code in a query can refuse that.
_GRACE = 5.0
#: Of a session that asks; the search path is the database's own.
SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "row_security": "off",
    "client_min_messages": "error",
}
_MILLISECONDS = 1000
#: Characters of a message of the server.
_LONGEST = 1000
_HINTS = {
    "22021": "Ask for the bytes of values that are not valid UTF-8: convert_to(COLUMN, 'SQL_ASCII').",
    "42601": "Give one query that begins with SELECT, VALUES, TABLE or WITH, without a semicolon inside.",
    "42P01": "`refnet show ARTIFACT --tables` lists the tables; write SCHEMA.TABLE for one outside of the search path.",
    "55000": "It reads a view or table that a scratch server cannot fill.",
}


#: The rows of an answer, to be closed before its session.
Rows = Generator[tuple[str | None, ...], None, None]
_Stream = Generator[tuple[Any, ...], None, None]


class Asker:
    """A read-only session with a time limit."""

    def __init__(self, target: Target, search_path: str | None, limits: AnswerLimits) -> None:
        self._limits = limits
        settings = {**SETTINGS, "statement_timeout": f"{limits.seconds * _MILLISECONDS:.0f}"}
        if search_path is not None:
            settings["search_path"] = search_path
        self.session: Session = target.connect(settings, encoding="UTF8")
        # The text of a row comes as varchar, and is taken apart into its values.
        self.session.adapters.register_loader("varchar", RecordLoader)
        self._expired = False
        #: The rows that were read.
        self.count = 0
        #: Why the answer is not complete.
        self.cut: RefnetError | None = None

    def columns(self, query: bytes) -> tuple[str, ...]:
        """Return the names of the columns of `query`."""
        with self.in_time():
            found = self.session.execute(
                b"SELECT * FROM (\n" + query + b"\n) AS query LIMIT 0", binary=True
            ).description
        return tuple(column.name for column in found or ())

    def rows(self, query: bytes, *, as_json: bool = False) -> Rows:
        """Yield the rows of `query`, in its order, as text; `as_json`: each as one value, a JSON object.

        RefnetError if the query fails, or a row is larger than LARGEST_ROW.
        """
        row = sql.Identifier(f"refnet_{secrets.token_hex(8)}")  # stands for the row: no column has this name
        text = sql.SQL("pg_catalog.row_to_json({})::text" if as_json else "{}::text").format(row)
        head = sql.SQL(
            "SELECT CASE WHEN pg_catalog.octet_length(t) OPERATOR(pg_catalog.<=) {} THEN t END::{} FROM (SELECT {} AS t FROM (\n"
        ).format(LARGEST_ROW, sql.SQL("text" if as_json else "varchar"), text)
        tail = sql.SQL("\n) AS {} OFFSET 0) AS found LIMIT {}").format(row, self._limits.rows + 1)
        asked = head.as_bytes(self.session) + query + tail.as_bytes(self.session)
        with (
            self.in_time(),
            self.session.cursor() as cursor,
            closing(cast("_Stream", cursor.stream(asked))) as stream,
        ):
            yield from self._within_limits(stream)

    def _within_limits(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str | None, ...]]:
        left = self._limits.bytes
        for (row,) in rows:
            if row is None:
                raise RefnetError(
                    f"row {self.count + 1:,} is larger than {size(LARGEST_ROW)}",
                    "Select fewer columns, or a part of its values: left(column, 1000).",
                )
            values: tuple[str | None, ...] = (row,) if isinstance(row, str) else row
            left -= sum(map(len, filter(None, values)))
            if self.count == self._limits.rows:  # the last that was asked for
                self.cut = _cut(f"there are more than {plural(self.count, 'row')}", "--rows")
                continue
            if left < 0:
                self.cut = _cut(f"there is more than {size(self._limits.bytes)}", "--megabytes")
                return
            self.count += 1
            yield values

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """End the block after the time limit; RefnetError for an error of the server or the limit."""
        timer = threading.Timer(self._limits.seconds + _GRACE, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            raise self._failed(error) from error
        finally:
            timer.cancel()

    def _end(self) -> None:
        """Break the connection: code in a query can ignore a cancel request. The scratch server ends with this run."""
        self._expired = True
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.session.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)

    def _failed(self, error: psycopg.Error) -> RefnetError:
        if self._expired or isinstance(error, errors.QueryCanceled):
            return RefnetError(
                f"the query did not end within {seconds(self._limits.seconds)}",
                "Narrow it, or give it more time with --seconds. A copy of a part has no indexes.",
            )
        said = error.diag.message_primary or str(error).strip().split("\n")[0]
        own = error.diag.message_hint or _HINTS.get(error.sqlstate or "", "Correct the query.")
        return RefnetError(f"the query failed: {said[:_LONGEST]}", own[:_LONGEST])

    def close(self) -> None:
        self.session.close()


def _cut(why: str, option: str) -> RefnetError:
    return RefnetError(f"the answer is cut short: {why}", f"Raise {option} to get more.")


#: A table, as schema and name.
Key = tuple[str, str]

_HEAD = b"CREATE TEMPORARY VIEW refnet_query AS SELECT FROM (\n"
#: Follows the rules of views, SQL bodies of functions, operators, and the partitions and children of tables.
_NEEDED = """
WITH RECURSIVE needed (catalog, oid) AS (
  SELECT 'pg_catalog.pg_class'::regclass::oid, 'pg_temp.refnet_query'::regclass::oid
UNION
  SELECT found.catalog, found.oid FROM needed CROSS JOIN LATERAL (
    SELECT refclassid, refobjid FROM pg_catalog.pg_depend d
    WHERE d.classid = needed.catalog AND d.objid = needed.oid AND needed.catalog <> 'pg_catalog.pg_class'::regclass
  UNION ALL
    SELECT 'pg_catalog.pg_rewrite'::regclass, r.oid FROM pg_catalog.pg_rewrite r
    WHERE needed.catalog = 'pg_catalog.pg_class'::regclass AND r.ev_class = needed.oid AND r.ev_type = '1'
  UNION ALL
    SELECT 'pg_catalog.pg_class'::regclass, i.inhrelid FROM pg_catalog.pg_inherits i
    WHERE needed.catalog = 'pg_catalog.pg_class'::regclass AND i.inhparent = needed.oid
  ) AS found (catalog, oid)
)
"""
_RELATIONS = """
SELECT DISTINCT c.relkind::text, n.nspname::text, c.relname::text FROM needed
JOIN pg_catalog.pg_class c ON needed.catalog = 'pg_catalog.pg_class'::regclass AND needed.oid = c.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S')
"""
_OPAQUE = """
SELECT p.oid::regprocedure::text FROM needed
JOIN pg_catalog.pg_proc p ON needed.catalog = 'pg_catalog.pg_proc'::regclass AND needed.oid = p.oid
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('internal', 'c') AND pg_catalog.to_jsonb(p) ->> 'prosqlbody' IS NULL ORDER BY 1 LIMIT 1
"""
#: The database's search path may contain operators of others.
_OWN_PATH = "SET LOCAL search_path TO pg_catalog"
#: A transaction keeps the lock of everything that it has read.
_TOUCHED = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


@dataclass(frozen=True)
class QueriedRelations:
    """The relations that a query reads, views resolved."""

    #: Relation kind of pg_class → its relations; r and p are tables, m materialized views, f foreign tables, S sequences.
    relations: dict[str, frozenset[Key]]
    #: A function that may read any table; "" if there is none.
    opaque: str = ""

    def of(self, *kinds: str) -> frozenset[Key]:
        return frozenset().union(*(self.relations.get(kind, frozenset()) for kind in kinds))


def queried_relations(session: Session, query: bytes) -> QueriedRelations:
    """Relations that `query` reads; psycopg.Error if it is not a query or has an error."""
    session.execute("BEGIN READ WRITE")
    try:
        # In a subquery, as a view must not have two columns of one name. Binary makes it a single statement.
        session.execute(_HEAD + query + b"\n) AS query", binary=True)
        session.execute(_OWN_PATH)
        found: dict[str, set[Key]] = {}
        for kind, schema, name in session.execute((_NEEDED + _RELATIONS).encode()).fetchall():
            found.setdefault(kind, set()).add((schema, name))
        opaque = session.execute((_NEEDED + _OPAQUE).encode()).fetchone()
    finally:
        if not session.broken:
            session.execute("ROLLBACK")
    return QueriedRelations(
        {kind: frozenset(keys) for kind, keys in found.items()}, opaque[0] if opaque else ""
    )


def touched(session: Session) -> frozenset[Key]:
    """Return the tables that the transaction of `session` has read."""
    session.execute(_OWN_PATH)
    return frozenset((schema, name) for schema, name in session.execute(_TOUCHED).fetchall())
