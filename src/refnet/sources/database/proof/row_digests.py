"""Digests of tables: of an artifact's text, and of the rows of a server.

Those of the text are recorded by a proof (older versions: the dump), else computed. The server computes its own by the
same query in the source and in a scratch server. Each is a sum of the hashes of all rows, so their order does not
matter; the server's is written `METHOD:SUM`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import psycopg

from refnet.catalog.artifact import Deviation, Finding, Progress, silent
from refnet.catalog.manifest import SOURCE_ROWS, Outcome
from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, cancel
from refnet.sources.database.artifact.index import DIGEST, Index, Member, Table
from refnet.sources.database.artifact.member_rows import Digest, Lines, complete_lines, cut_short
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.rows.live_catalog import Relation, shares, user_relations
from refnet.sources.database.sql_text import COPY, Codec
from refnet.sources.database.workers import Checks, Stopped, Task


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


@contextmanager
def comparing(target: Target, index: Index, major: int, progress: Progress) -> Iterator[Checks]:
    """Yield checks that digest the rows of `target`, a scratch server of `major`, like the source.

    Every restore recomputes stored generated columns and materialized views, so differences there are not damage.
    """
    digested = [table for table in index.tables if table.source]
    theirs = int(index.server["version_num"]) // 10_000
    before = []
    if major != theirs and not all(table.source.startswith(Method.MD5) for table in digested):
        why = f"PostgreSQL {theirs} digested them, and hashes of PostgreSQL {major} may differ"
        before, digested = [Finding(SOURCE_ROWS, Outcome.UNVERIFIED, why)], []
    if not digested and not index.views:
        yield Checks((), lambda: None, lambda: before)
        return
    with live_catalog.reading(target) as (session, encoding, codec):
        found, filled = live_catalog.read(session, codec).tables, views(partial(codec.rows, session))
    with ExitStack() as stack:
        scratch = _Scratch(target, encoding, codec, progress, stack)
        tables = [_Digested(table, found.get((table.schema, table.name))) for table in digested]
        shown = list(_views(index, filled, digested=not before))
        tasks = [*(task for one in tables for task in scratch.tasks_of(one)), *map(scratch.task_of, shown)]
        progress("digesting rows", 0, scratch.total)
        yield Checks(tasks, scratch.stop, lambda: [*before, *_of_tables(tables), *_of_views(shown)])


@dataclass
class _Sum:
    """A digest that the source recorded ("": none), and what the scratch server has, part by part."""

    recorded: str
    columns: Sequence[str]
    total: int = 0
    #: Why the server could not digest a part.
    error: str = ""

    @property
    def method(self) -> Method:
        return Method(self.recorded.partition(":")[0])

    @property
    def differs(self) -> bool:
        return bool(self.recorded) and (bool(self.error) or written(self.method, self.total) != self.recorded)


class _Digested:
    """A table, and the sums of its rows and of its stored generated columns."""

    def __init__(self, table: Table, relation: Relation | None) -> None:
        self.table, self.relation = table, relation
        columns = [column for column in table.columns if relation and column in relation.columns]
        self.rows = _Sum(table.source, columns)
        self.generated = _Sum(table.generated, relation.generated if relation else ())
        #: Ranges of pages that have not been digested; some remain after a failure.
        self.left = 0

    @property
    def is_wrong(self) -> bool:
        return self.relation is None or bool(self.rows.error) or (not self.left and self.rows.differs)


@dataclass
class _View:
    """A materialized view."""

    schema: str
    name: str
    rows: int
    digest: _Sum
    counted: str = ""

    @property
    def difference(self) -> str:
        """How it differs from the source's, or ""."""
        if self.counted != str(self.rows):
            return f"a restore gives it {self.counted} rows, and the source has {self.rows}"
        differs = f"a restore gives it other values in its {self.rows} rows than the source has"
        return differs if self.digest.differs else ""


def _views(index: Index, filled: Sequence[tuple[Any, ...]], *, digested: bool) -> Iterator[_View]:
    """Materialized views that a restore fills; the others are the subject of other findings."""
    unread = {name for _, name in index.foreign_views}
    live = {(schema, name): columns for schema, name, columns in filled}
    for schema, name, rows, digest in index.views:
        if (schema, name) in live and f"{schema}.{name}" not in unread:
            yield _View(schema, name, rows, _Sum(digest if digested else "", live[schema, name]))


@dataclass
class _Scratch:
    """A scratch server with the restored data; each thread has a session."""

    target: Target
    encoding: str
    codec: Codec
    progress: Progress
    #: Closes the sessions.
    stack: ExitStack
    done: int = 0
    total: int = 0
    stopped: bool = False
    sessions: dict[threading.Thread, Session] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tasks_of(self, digested: _Digested) -> Iterator[Task]:
        """Yield a task for each range of pages of a table."""
        table, relation = digested.table, digested.relation
        if relation is None:
            return
        self.total += table.raw
        ranges = shares(relation, table.raw)
        digested.left = len(ranges)
        for where in ranges:
            yield Task(table.raw, partial(self._add_rows, digested, where, table.raw // len(ranges)))

    def task_of(self, view: _View) -> Task:
        return Task(0, partial(self._add_view, view))

    def _add_rows(self, digested: _Digested, where: bytes, size: int) -> None:
        name = b"ONLY " + self.codec.quoted(digested.table.schema, digested.table.name)
        self._add(digested.rows, name, where)
        if digested.generated.recorded:
            self._add(digested.generated, name, where)
        with self.lock:
            digested.left -= 1
            self.done += size
            self.progress("digesting rows", self.done, self.total)

    def _add_view(self, view: _View) -> None:
        name = self.codec.quoted(view.schema, view.name)
        view.counted = str(self._asked(b"SELECT count(*) FROM " + name))
        if view.digest.recorded:
            self._add(view.digest, name, b"")

    def _add(self, into: _Sum, name: bytes, where: bytes) -> None:
        """Digest rows with the method of the recorded digest."""
        digest = expression(into.method, self.codec.listed(into.columns))
        found = self._asked(b"SELECT %b FROM %b%b" % (digest, name, where))
        with self.lock:
            if isinstance(found, str):
                into.error = found
            else:
                into.total += found

    def _asked(self, query: bytes) -> int | str:
        """The number that `query` returns, or the error of its rows."""
        session = self._session()
        try:
            row = session.execute(query).fetchone()
        except psycopg.Error as error:
            if self.stopped:
                raise Stopped from error
            if server_errors.is_servers(error.sqlstate):
                raise server_errors.of_server(error, "digesting the rows") from error
            return str(error)
        return int(row[0]) if row else 0

    def _session(self) -> Session:
        """This thread's session, opened at its first use."""
        thread = threading.current_thread()
        with self.lock:
            if self.stopped:
                raise Stopped
            if thread not in self.sessions:
                settings = {**live_catalog.SETTINGS, **SCANS}
                opened = self.target.connect(settings, encoding=self.encoding)
                self.sessions[thread] = self.stack.enter_context(opened)
            return self.sessions[thread]

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for session in self.sessions.values():
                cancel(session)


def _of_tables(tables: Sequence[_Digested]) -> Iterator[Finding]:
    wrong = [one.table.qualified for one in tables if one.is_wrong]
    for one in tables:
        if not one.is_wrong and one.generated.differs:
            why = "the source has other values than their expressions give now"
            yield Finding(f"stored generated columns of {one.table.qualified}", Outcome.UNVERIFIED, why)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        why = f"the rows of {wrong[0]}{more} are not those that the server digested while they were copied"
        yield Finding(SOURCE_ROWS, Outcome.FAILED, why, Deviation.CHANGED)
    elif tables:
        yield Finding(SOURCE_ROWS, Outcome.PASSED)


def _of_views(views_: Sequence[_View]) -> Iterator[Finding]:
    """Findings about materialized views that a restore fills with different rows."""
    for one in views_:
        if why := one.difference:
            yield Finding(f"materialized view {one.schema}.{one.name}", Outcome.UNVERIFIED, why)
