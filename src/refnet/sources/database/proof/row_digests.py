"""Digests of tables: of an artifact's text, and of the rows of a server.

Those of the text are recorded by a proof (older versions: the dump), else computed. The server computes its own by the
same query in the source and in a scratch server. Each is a sum of the hashes of all rows, so their order does not
matter; the server's is written `METHOD:SUM`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import psycopg

from refnet.catalog.artifact import Deviation, Finding, Progress, silent
from refnet.catalog.manifest import SOURCE_ROWS, Outcome
from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import DIGEST, Index, Member, Table
from refnet.sources.database.artifact.member_rows import Digest, Lines, complete_lines, cut_short
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.rows.live_catalog import user_relations
from refnet.sources.database.sql_text import COPY, Codec


def digested(reader: Reader, recorded: str, jobs: int, progress: Progress = silent) -> Index:
    """Return the index of `reader` with the content digest of every table.

    Args:
        recorded: the digests that a proof recorded, or "".
        jobs: threads for reading members, if necessary.
        progress: gets the bytes that were read.
    """
    index = reader.index
    if index.digests:
        return index
    if len(recorded) == len(index.tables) * DIGEST:
        return index.with_digests(recorded)
    rows = MemberRows(reader)
    members = [member for member in index.members if member.table is not None]
    done, total = 0, sum(member.raw for member in members)
    with ThreadPoolExecutor(jobs) as pool:
        for member, _ in zip(members, pool.map(rows.read, members), strict=True):
            done += member.raw
            progress("reading the rows of the artifact", done, total)
    return rows.index()


@dataclass
class MemberRows:
    """Sums the digests of tables over members read by several threads."""

    reader: Reader
    #: Of the tables of the index, in its order.
    digests: list[Digest] = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.digests = [Digest() for _ in self.reader.index.tables]

    def read(self, member: Member) -> None:
        """Read `member`, of a table, to its end and add its rows; RefnetError (DAMAGED) if it changed."""
        digest = Digest()
        lines = Lines(complete_lines(self.reader.raw(member)))
        try:
            for statement in lines.statements():
                if COPY.fullmatch(statement):
                    for _ in digest.through(lines.rows()):
                        pass
        except ValueError as error:
            raise cut_short(self.reader, member) from error
        self.add(member, digest)

    def add(self, member: Member, digest: Digest) -> None:
        """Add all rows of `member`; RefnetError (DAMAGED) if it contains another number of rows than was written."""
        if digest.rows != member.rows:
            what = (
                f"the member at byte {member.offset} contains {digest.rows} rows, {member.rows} were written"
            )
            raise damaged(self.reader.name, what)
        if member.table is not None:
            with self.lock:
                self.digests[member.table].add(digest)

    def index(self) -> Index:
        """The index with digests; all members must have been read."""
        index = self.reader.index
        return index if index.digests else index.with_digests("".join(one.hex for one in self.digests))


#: An index may lack rows: they are read where COPY reads them.
SCANS = {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off"}


class Method(StrEnum):
    """The hash of a row. PostgreSQL's hash functions are comparable only within a major version."""

    #: Of the values: fast. It takes 0 for -0 and 1.0 for 1.00.
    RECORD = "record"
    #: Of the text of the row.
    TEXT = "text"
    #: Of the text, by MD5: compares with every version.
    MD5 = "md5"


_HASHES = {
    # The hash of a record is 31 times that of its first column plus that of its second, and so on: without another hash
    # around it, the sum would not show that two rows have exchanged a value.
    Method.RECORD: b"pg_catalog.hashint8extended(pg_catalog.hash_record_extended(ROW(%b), 0), 0)",
    Method.TEXT: b'pg_catalog.hashtextextended(ROW(%b)::text COLLATE pg_catalog."C", 0)',
    Method.MD5: b"('x' || pg_catalog.left(pg_catalog.md5(ROW(%b)::text), 16))::bit(64)::int8",
}
#: Types whose values have equal hashes in each database; not in a list: OIDs (enums), and what equals more than itself.
_HASHED = [
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bytea"),
    *("uuid", "date", "time", "timestamp", "timestamptz"),
]
_NOT_HASHED = """
SELECT DISTINCT a.attrelid::int8 FROM pg_attribute a LEFT JOIN pg_type e ON e.typarray = a.atttypid
LEFT JOIN pg_collation k ON k.oid = a.attcollation
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND NOT (coalesce(e.oid, a.atttypid) = ANY (%s::regtype[]::oid[]) AND coalesce(k.collisdeterministic, true))
"""
_VIEWS = user_relations(
    """
    n.nspname::text, c.relname::text,
    ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)""",
    "m",
    "AND c.relispopulated ORDER BY 1, 2",
)


def as_text(rows: Callable[..., list[tuple[Any, ...]]], oids: Sequence[int]) -> frozenset[int]:
    """Tables whose rows are hashed as text: with an unsupported type or a nondeterministic collation."""
    return frozenset(oid for (oid,) in rows(_NOT_HASHED, oids, _HASHED))


def expression(method: Method, columns: bytes) -> bytes:
    """Return the aggregate that digests rows of `columns`, a list of quoted names."""
    return b"coalesce(sum(%b), 0)" % (_HASHES[method] % columns)


def written(method: Method, total: object) -> str:
    return f"{method}:{total}"


def views(rows: Callable[..., list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Schema, name and columns of the materialized views that have been filled."""
    return rows(_VIEWS)


def compare(target: Target, index: Index, major: int, progress: Progress) -> Iterator[Finding]:
    """Digest the rows of `target`, a scratch server of `major`, like the source; yield differences.

    Every restore recomputes stored generated columns and materialized views, so differences there are not damage.
    """
    digested = [table for table in index.tables if table.source]
    theirs = int(index.server["version_num"]) // 10_000
    readable = major == theirs or all(table.source.startswith(Method.MD5) for table in digested)
    if not readable:
        why = f"PostgreSQL {theirs} digested them, and hashes of PostgreSQL {major} may differ"
        yield Finding(SOURCE_ROWS, Outcome.UNVERIFIED, why)
    if not digested and not index.views:
        return
    with live_catalog.reading(target) as (session, _, codec):
        # Before the scans: without its indexes, the catalog is read once for each table.
        found, filled = live_catalog.read(session, codec).tables, views(partial(codec.rows, session))
        for name, value in SCANS.items():
            session.execute("SELECT set_config(%s, %s, false)", (name, value))
        scratch = _Scratch(session, codec, progress, found, filled)
        if digested and readable:
            yield from scratch.tables(digested)
        yield from scratch.views(index, digested=readable)


@dataclass
class _Scratch:
    """A scratch server with the restored data."""

    session: Session
    codec: Codec
    progress: Progress
    found: Mapping[live_catalog.Name, live_catalog.Relation]
    #: Schema, name and columns of the materialized views that have been filled.
    filled: Sequence[tuple[Any, ...]]

    def tables(self, tables: Collection[Table]) -> Iterator[Finding]:
        wrong: list[str] = []
        done, total = 0, sum(table.raw for table in tables)
        for table in tables:
            relation = self.found.get((table.schema, table.name))
            columns = [column for column in table.columns if relation and column in relation.columns]
            name = self.codec.quoted(table.schema, table.name)
            if relation is None or self._digest(name, table.source, columns) != table.source:
                wrong.append(table.qualified)
            elif (
                table.generated and self._digest(name, table.generated, relation.generated) != table.generated
            ):
                why = "the source has other values than their expressions give now"
                what = f"stored generated columns of {table.qualified}"
                yield Finding(what, Outcome.UNVERIFIED, why)
            done += table.raw
            self.progress("digesting rows", done, total)
        if not wrong:
            yield Finding(SOURCE_ROWS, Outcome.PASSED)
            return
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        why = f"the rows of {wrong[0]}{more} are not those that the server digested while they were copied"
        yield Finding(SOURCE_ROWS, Outcome.FAILED, why, Deviation.CHANGED)

    def views(self, index: Index, *, digested: bool) -> Iterator[Finding]:
        """Findings about materialized views that a restore fills with different rows."""
        unread = {name for _, name in index.foreign_views}
        live = {(schema, name): columns for schema, name, columns in self.filled}
        for schema, name, rows, digest in index.views:
            if (schema, name) not in live or f"{schema}.{name}" in unread:
                continue  # the schema differs, or it stays empty: another finding says so
            quoted = self.codec.quoted(schema, name)
            found = self._asked(b"SELECT count(*) FROM " + quoted)
            why = "" if found == str(rows) else f"a restore gives it {found} rows, and the source has {rows}"
            if not why and digest and digested and self._digest(quoted, digest, live[schema, name]) != digest:
                why = f"a restore gives it other values in its {rows} rows than the source has"
            if why:
                yield Finding(f"materialized view {schema}.{name}", Outcome.UNVERIFIED, why)

    def _digest(self, name: bytes, like: str, columns: Sequence[str]) -> str:
        """Digest of rows with the method of `like`, or the server's error."""
        method = Method(like.partition(":")[0])
        return written(
            method,
            self._asked(b"SELECT %b FROM ONLY %b" % (expression(method, self.codec.listed(columns)), name)),
        )

    def _asked(self, query: bytes) -> str:
        try:
            row = self.session.execute(query).fetchone()
        except psycopg.Error as error:
            if server_errors.is_servers(error.sqlstate):
                raise server_errors.of_server(error, "digesting the rows") from error
            return str(error)
        return str(row[0]) if row else ""
