"""Counts the rows of a live database, and those written after a snapshot, which a restore would undo."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
from psycopg import errors

from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.catalog_queries import OF_EXTENSION, user_relations
from refnet.sources.database.plan.restore_facts import Rows
from refnet.sources.database.sql_names import Codec

#: Seconds for counting all tables; the rest is estimated.
BUDGET = 10.0

_TABLES = user_relations(
    "n.nspname::text, c.relname::text, nullif(c.reltuples, -1)::int8",  # -1: never analyzed
    "r",
    f"AND c.relpersistence <> 't' AND NOT {OF_EXTENSION} ORDER BY n.nspname, c.relname",
)
#: The snapshot's first unassigned transaction id is in this server's past, and not yet wrapped around.
_COMPARABLE = """
SELECT pg_snapshot_xmax(%(snapshot)s::pg_snapshot)::text::numeric <= now.next
       AND now.next - pg_snapshot_xmax(%(snapshot)s::pg_snapshot)::text::numeric < 2000000000
FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS next) now
"""
#: Rows that the snapshot does not see, of transactions that began after it or were still open in it.
_NEWER = """
count(*) FILTER (WHERE age(t.xmin) <= age((mod(pg_snapshot_xmax(%(s)s::pg_snapshot)::text::numeric, 4294967296))::text::xid)
                 OR t.xmin::text = ANY (ARRAY(SELECT mod(x::text::numeric, 4294967296)::text
                                              FROM pg_snapshot_xip(%(s)s::pg_snapshot) x)))
"""


def rows(target: Target, snapshot: str | None, budget: float = BUDGET) -> dict[str, Rows]:
    """Row counts in the database `target` by `schema.table`, estimated beyond `budget` seconds.

    None without an estimate: the table was never analyzed.

    `snapshot`: PostgreSQL's text of one that was taken on the same server (`10:20:10,14`), or None.
    """
    found: dict[str, Rows] = {}
    # A live database that is broken or accepts no session must not stop its own restore.
    with (
        contextlib.suppress(ConnectError, psycopg.OperationalError),
        target.connect(READER_SETTINGS) as session,
    ):
        codec = Codec.of(session, session.info.encoding)
        comparable = snapshot is not None and _comparable(session, snapshot)
        counter = _counter(snapshot if comparable else None)
        until = time.monotonic() + budget
        for schema, name, estimate in codec.rows(session, _TABLES):
            query = b"SELECT %b FROM ONLY %b t" % (counter, codec.quoted(schema, name))
            counted = _count(session, query, until)
            found[f"{schema}.{name}"] = counted or Rows(estimate, exact=False)
    return found


def system_identifier(session: psycopg.Connection[Any]) -> str | None:
    """The cluster's system identifier; None if this user may not read it."""
    try:
        row = session.execute("SELECT system_identifier::int8 FROM pg_control_system()").fetchone()
    except errors.InsufficientPrivilege:
        return None
    return str(row[0]) if row else None


def _comparable(session: psycopg.Connection[Any], snapshot: str) -> bool:
    row = session.execute(_COMPARABLE, {"snapshot": snapshot}).fetchone()
    return bool(row and row[0])


def _counter(snapshot: str | None) -> bytes:
    if snapshot is None:
        return b"count(*), NULL::int8"
    digits = "".join(c for c in snapshot if c.isdigit() or c in ":,")
    return b"count(*), " + (_NEWER % {"s": f"'{digits}'"}).encode()


def _count(session: psycopg.Connection[Any], query: bytes, until: float) -> Rows | None:
    left = int((until - time.monotonic()) * 1000)
    if left <= 0:
        return None
    try:
        session.execute(f"SET statement_timeout = {left}")
        row = session.execute(query).fetchone()
    except errors.QueryCanceled:
        return None
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return None
    return Rows(row[0], exact=True, newer=row[1]) if row else None
