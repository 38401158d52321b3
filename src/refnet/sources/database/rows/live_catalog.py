"""What is in a live database: its tables and sequences, their sizes, and their rows.

The catalog is the only source of names in a comparison's statements. Rows are counted within a time limit, also those
written after a snapshot, which a restore would undo.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.admin_session import Session
from refnet.sources.database.plan.restore_facts import RowCount
from refnet.sources.database.sql_text import Codec

#: True if an extension's script made the relation `c`.
OF_EXTENSION = """EXISTS (
    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
    AND d.objsubid = 0 AND d.deptype = 'e')"""
#: True if pg_dump writes the rows of the relation `c`; of an extension's tables these are its configuration tables.
DUMPED = f"""c.relpersistence <> 't'
    AND (NOT {OF_EXTENSION} OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE c.oid = ANY (extconfig)))"""
_OF_USERS = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


def user_relations(columns: str, kinds: str, rest: str = "") -> str:
    """Query for relations (`c`) outside of the system schemas, with their schemas (`n`).

    `kinds`: letters of pg_class.relkind. `rest`: more conditions, which begin with AND, and the order.
    """
    letters = ", ".join(f"'{kind}'" for kind in kinds)
    return f"SELECT {columns} {_OF_USERS} AND c.relkind IN ({letters}) {rest}"


#: The name of the prepared transaction that holds the lock `l`, which has no process. NULL: it is of a session.
PREPARED = """
(SELECT p.gid FROM pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
 WHERE l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction)"""
#: About how much of a table one worker reads at a time, in bytes of COPY text: at the end none waits long for another.
SHARE = 8 << 20
#: Of one table at most, whatever an index says of its size.
#: Into how many parts a page may be cut, and the rows of a part: a page with long values has about a hundred.
PARTS, _PART = 8, 16
_MOST_SHARES = 4096
Name = tuple[str, str]
#: A comparison only reads, whatever a statement says.
SETTINGS: Mapping[str, str] = {**READER_SETTINGS, "default_transaction_read_only": "on"}
_RELATIONS = user_relations(
    """
    n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END,
       c.oid::int8, coalesce(pg_partition_root(c.oid), c.oid)::int8,
       c.oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND objsubid = 0 AND deptype = 'e')
       OR c.relkind = 'S' AND c.oid IN (
           SELECT d.objid FROM pg_depend d JOIN pg_depend e ON e.classid = 'pg_class'::regclass AND e.objid = d.refobjid
               AND e.objsubid = 0 AND e.deptype = 'e'
           WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')),
       ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = '' ORDER BY attnum),
       ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = 's' ORDER BY attnum),
       c.relpersistence = 'u'""",
    "rpS",
    "AND c.relpersistence <> 't'",
)


@dataclass(frozen=True)
class Relation:
    """A table or a sequence."""

    schema: str
    name: str
    #: pg_class.relkind: r, p or S.
    kind: str
    #: Of an ordinary table, else 0.
    pages: int
    oid: int
    #: The oid of the top of its partitions, or its own.
    root: int
    #: It, or the table that the sequence belongs to, is part of an extension.
    owned: bool
    #: Without generated columns.
    columns: list[str]
    #: The stored generated ones.
    generated: list[str]
    unlogged: bool = False

    @property
    def qualified(self) -> str:
        """`schema.name`, for display."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Relations:
    """The tables and sequences of a database outside of the system's schemas, by schema and name."""

    tables: Mapping[Name, Relation]
    sequences: Mapping[Name, Relation]


@contextmanager
def reading(target: Target) -> Iterator[tuple[Session, str, Codec]]:
    """Open a session that reads `target` in the database's own encoding; yield it, the encoding's name and codec."""
    with target.connect(SETTINGS) as session:
        codec, encoding = Codec.of_server(session)
        yield session, encoding, codec


def read(session: Session, codec: Codec) -> Relations:
    """Read the relations of the session's database."""
    tables: dict[Name, Relation] = {}
    sequences: dict[Name, Relation] = {}
    for row in codec.rows(session, _RELATIONS):
        one = Relation(*row)
        into = sequences if one.kind == "S" else tables
        into[one.schema, one.name] = one
    return Relations(tables, sequences)


def page_ranges(pages: int, count: int) -> list[bytes]:
    """Return `count` conditions on ctid that cut a table of `pages` pages; the last range has no end.

    More ranges than pages are cut within the pages: a page with a hundred long values may be all of a large table.
    """
    parts = 1 if count <= pages else PARTS
    places = [divmod(pages * parts * number // count, parts) for number in range(count)]
    return between(places)


def between(places: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return conditions on ctid: a range begins at each place, a page and a part of it; the last range has no end."""
    cuts = [b"'(%d,%d)'" % (page, part * _PART) for page, part in places]
    ends = [b" AND ctid < " + cut for cut in cuts[1:]]
    return [b"ctid >= %b%b" % (first, end) for first, end in zip(cuts, [*ends, b""], strict=True)]


def shares(relation: Relation, size: int) -> list[bytes]:
    """Return WHERE clauses that cut `relation`, `size` bytes of COPY text, into ranges of about SHARE."""
    count = min(relation.pages * PARTS, size // SHARE, _MOST_SHARES)
    return [b" WHERE " + where for where in page_ranges(relation.pages, count)] if count > 1 else [b""]


_SIZES = user_relations(
    "n.nspname::text, c.relname::text, pg_table_size(c.oid), pg_indexes_size(c.oid), greatest(c.reltuples, 0)::int8",
    "rm",
    "ORDER BY pg_total_relation_size(c.oid) DESC, 1, 2",
)


@dataclass(frozen=True)
class TableSize:
    """The size of a table or materialized view."""

    name: str
    #: Bytes of its rows, TOAST included.
    data: int
    #: Bytes of its indexes.
    indexes: int
    #: Estimated.
    rows: int

    @property
    def total(self) -> int:
        return self.data + self.indexes

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bytes": self.total,
            "data_bytes": self.data,
            "index_bytes": self.indexes,
            "rows_about": self.rows,
        }


def sizes(target: Target) -> tuple[int, tuple[TableSize, ...]]:
    """Return the bytes of the database, and its tables, the largest first."""
    with target.connect(READER_SETTINGS) as session:
        codec, _ = Codec.of_server(session)
        ((size,),) = codec.rows(session, "SELECT pg_database_size(current_database())")
        rows = codec.rows(session, _SIZES)
    return size, tuple(TableSize(f"{schema}.{name}", *counts) for schema, name, *counts in rows)


#: Seconds for counting all tables; the rest is estimated.
BUDGET = 10.0
#: How much later they may end, in milliseconds: telling the server the time costs as much as counting a small table.
_LATE = 200
_TABLES = user_relations(
    """n.nspname::text, c.relname::text, nullif(c.reltuples, -1)::int8,  -- -1: never analyzed
    (SELECT concat(rn.nspname, '.', r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
     WHERE c.relispartition AND r.oid = pg_partition_root(c.oid))""",
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


def row_counts(
    target: Target, snapshot: str | None, budget: float = BUDGET, recorded: Container[str] = ()
) -> dict[str, RowCount]:
    """Row counts in the database `target` by `schema.table`, estimated beyond `budget` seconds.

    None without an estimate: the table was never analyzed.

    Args:
        snapshot: PostgreSQL's text of one that was taken on the same server (`10:20:10,14`), or None.
        recorded: a partitioned table of these counts as one table, without its partitions.
    """
    found: dict[str, RowCount] = {}
    # A live database that is broken or accepts no session must not stop its own restore.
    with (
        contextlib.suppress(ConnectError, psycopg.OperationalError),
        target.connect(READER_SETTINGS) as session,
    ):
        codec = Codec.of(session, session.info.encoding)
        comparable = snapshot is not None and _comparable(session, snapshot)
        counter = _counter(snapshot if comparable else None)
        limit = _Limit(session, time.monotonic() + budget)
        for schema, name, estimate, root in codec.rows(session, _TABLES):
            query = b"SELECT %b FROM ONLY %b t" % (counter, codec.quoted(schema, name))
            counted = _count(session, query, limit)
            rows, own = counted or RowCount(estimate, exact=False), f"{schema}.{name}"
            if root in recorded:
                own, rows = root, found[root] + rows if root in found else rows
            found[own] = rows
    return found


def _comparable(session: psycopg.Connection[Any], snapshot: str) -> bool:
    row = session.execute(_COMPARABLE, {"snapshot": snapshot}).fetchone()
    return bool(row and row[0])


def _counter(snapshot: str | None) -> bytes:
    if snapshot is None:
        return b"count(*), NULL::int8"
    digits = "".join(c for c in snapshot if c.isdigit() or c in ":,")
    return b"count(*), " + (_NEWER % {"s": f"'{digits}'"}).encode()


@dataclass
class _Limit:
    """The limit of time of all queries of a session together."""

    session: psycopg.Connection[Any]
    #: By time.monotonic().
    until: float
    #: What the server knows, in milliseconds.
    known: float = math.inf

    def allows(self) -> bool:
        """Return whether there is time for another query; tell the server how much, if it knows of more."""
        left = int((self.until - time.monotonic()) * 1000)
        if 0 < left < self.known - _LATE:
            self.session.execute(f"SET statement_timeout = {left}")
            self.known = left
        return left > 0


def _count(session: psycopg.Connection[Any], query: bytes, limit: _Limit) -> RowCount | None:
    if not limit.allows():
        return None
    try:
        row = session.execute(query).fetchone()
    except errors.QueryCanceled:
        return None
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return None
    return RowCount(row[0], exact=True, newer=row[1]) if row else None
