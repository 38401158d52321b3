"""Compares a database with what an artifact recorded: every table, every large object, every sequence.

Each statement is made of names from the database's own catalog. The index may be forged, so its names are compared
with those and never put into a statement.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg

from refnet.catalog.artifact import Deviation, Finding
from refnet.catalog.manifest import Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import Target, reader_settings, server_version
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, cancel
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.index_values import schema_and_name
from refnet.sources.database.artifact.member_rows import Digest, complete_lines
from refnet.sources.database.dump import metadata
from refnet.sources.database.dump.psql_copy import Access, PsqlError
from refnet.sources.database.dump.row_copy import RowCopy
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.rows.live_catalog import Relation, Relations, shares
from refnet.sources.database.sql_text import Codec
from refnet.sources.database.workers import Checks, Stopped, Task, Workers, run_checks

#: Bytes of COPY text of rows that are long.
_LONG = 1 << 13
#: How many sequences one query reads.
_TOGETHER = 200
#: PostgreSQL 17 reads the largest interval of older servers, which have no infinity, as infinity.
_WITH_INFINITY = 17
_LARGEST = b"CASE WHEN %b = 'infinity' THEN '178956970 years 7 mons 2147483647 days 2562047788:00:54.775807' ELSE %b::text END"
_INTERVALS = "SELECT attrelid::int8, attname::text FROM pg_attribute WHERE atttypid = 'interval'::regtype AND attrelid >= 16384"
_SEQUENCE = b"SELECT %d, last_value, is_called FROM %b"


def compare(target: Target, index: Index, workers: Workers, *, content: bool = True) -> tuple[Finding, ...]:
    """Findings for each table of `index`, all large objects, and all sequences.

    Only one finding if the encodings differ, as equal rows then have different bytes.

    Args:
        target: the database, with no other writers. Its login need not be a superuser.
        index: what was recorded; columns are compared by name, as a correct restore may change their order.
        content: compare digests, else only row counts.
    """
    found: list[Finding] = []
    with comparing(target, index, workers, content=content) as checks:
        run_checks([checks], workers.jobs, found)
    return tuple(found)


@contextmanager
def comparing(target: Target, index: Index, workers: Workers, *, content: bool = True) -> Iterator[Checks]:
    """Yield what `compare` does, as checks that may run beside others."""
    with live_catalog.reading(target) as (session, encoding, codec):
        if encoding != index.encoding:
            why = f"{encoding} where {index.encoding} was recorded"
            differs = Finding("encoding", Outcome.FAILED, why, Deviation.CHANGED)
            yield Checks((), lambda: None, lambda: [differs])
            return
        found = live_catalog.read(session, codec)
        server = server_version(session)
        settings = reader_settings(server)
        comparison = _Comparison(target, index, found, codec, settings, workers, content, session)
        if int(index.server["version_num"]) // 10_000 < _WITH_INFINITY <= server:
            comparison.intervals = frozenset(codec.rows(session, _INTERVALS))
        tasks = comparison.tasks()
        workers.progress("comparing rows", 0, sum(table.raw for table in index.tables))
        try:
            yield Checks(tasks, comparison.stop, comparison.findings)
        finally:
            comparison.close()


@dataclass
class _Comparison:
    """One comparison of tables by parallel workers, each with sessions of its own."""

    target: Target
    index: Index
    found: Relations
    codec: Codec
    settings: Mapping[str, str]
    workers: Workers
    content: bool
    #: Reads what is not a table; one task has it.
    session: Session
    #: Of the index's tables, in its order.
    digests: list[Digest] = field(init=False)
    #: Number of a table → why it is not read.
    unread: dict[int, Finding] = field(default_factory=dict)
    #: Of large objects and sequences.
    others: list[Finding] = field(default_factory=list)
    #: Number of a table → why it could not be read.
    failed: dict[int, PsqlError] = field(default_factory=dict)
    #: Number of a table → its statements that have not ended.
    left: Counter[int] = field(default_factory=Counter)
    #: Bytes of COPY text that were read.
    done: int = 0
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    sessions: dict[threading.Thread, RowCopy] = field(default_factory=dict)
    #: The columns (oid of the table, name) whose infinity is compared with what an older server recorded.
    intervals: frozenset[tuple[int, str]] = frozenset()

    def __post_init__(self) -> None:
        self.digests = [Digest() for _ in self.index.tables]
        self._total = sum(table.raw for table in self.index.tables)

    def tasks(self) -> list[Task]:
        tasks: list[Task] = []
        for number, table in enumerate(self.index.tables):
            relation = self.found.tables.get((table.schema, table.name))
            if relation is None:
                self.unread[number] = _differs(table, Deviation.MISSING, "it does not exist")
            elif reason := _other_columns(table, relation):
                self.unread[number] = _differs(table, Deviation.CHANGED, reason)
            else:
                statements = list(self._statements(table, relation))
                self.left[number] = len(statements)
                tasks += (Task(table.raw, partial(self._read, number, one)) for one in statements)
        if self.index.large_objects or self.index.sequences:
            tasks.append(Task(sum(size for _, size, _ in self.index.large_objects), self._read_others))
        return tasks

    def _read_others(self) -> None:
        if self.index.large_objects:
            self.others.append(self._large_objects())
        if self.index.sequences:
            self.others.append(_sequences(self.session, self.codec, self.index, self.found))

    def _large_objects(self) -> Finding:
        what = f"{len(self.index.large_objects)} large objects"
        found: dict[int, tuple[int, str]] = {}
        try:
            for oid, size, digest in metadata.large_objects(self.session):
                found[oid] = (size, digest)
                if self.stopped:
                    raise Stopped
        except psycopg.Error as error:
            return Finding(what, Outcome.UNVERIFIED, f"cannot be read: {error.diag.message_primary}")
        recorded = self.index.large_objects
        wrong = [oid for oid, size, digest in recorded if found.pop(oid, None) != (size, digest)]
        return _compared(what, [*wrong, *found])

    def findings(self) -> Iterator[Finding]:
        for number, table in enumerate(self.index.tables):
            if finding := self.unread.get(number) or self._finding(number, table):
                yield finding
        if not self.index.partial:
            yield from _extra_tables(self.index, self.found)
        yield from self.others

    def close(self) -> None:
        for psql in self.sessions.values():
            psql.close()

    def _statements(self, table: Table, relation: Relation) -> Iterator[bytes]:
        """COPY statements that read the table, one per range of pages."""
        quoted = self.codec.quoted
        # The recorded order of the catalog's own columns: `_other_columns` found none that is not one of them.
        columns = b", ".join(self._column(relation, one) for one in table.columns if one in relation.columns)
        what = columns if self.content else b"pg_catalog.count(*)"
        name = quoted(relation.schema, relation.name)
        rows = b"ONLY " + name if relation.kind == "r" else name + self._without_leaves(relation)
        select = b"SELECT %b FROM %b" % (what, rows)
        for where in shares(relation, table.raw) if self.content else [b""]:
            yield b"COPY (%b%b) TO STDOUT" % (select, where)

    def _column(self, relation: Relation, column: str) -> bytes:
        quoted = self.codec.quoted(column)
        return _LARGEST % (quoted, quoted) if (relation.oid, column) in self.intervals else quoted

    def _without_leaves(self, top: Relation) -> bytes:
        """Condition that excludes separately recorded leaves of a partitioned table."""
        recorded = (
            self.found.tables.get((one.schema, one.name)) for one in self.index.tables if not one.root
        )
        own = [str(leaf.oid) for leaf in recorded if leaf and leaf.root == top.oid]
        return b" WHERE tableoid <> ALL ('{%b}'::oid[])" % ",".join(own).encode() if own else b""

    def _read(self, number: int, statement: bytes) -> None:
        """Add the rows of one statement to the digest of the table `number`."""
        digest, psql, table = Digest(), self._psql(), self.index.tables[number]
        try:
            pieces = psql.copy(statement, long=self.content and table.raw >= _LONG * table.rows > 0)
            if self.content:
                for data, ends in complete_lines(pieces):
                    digest.feed(data, ends=ends)
            else:
                digest.rows = int(b"".join(pieces))
        except PsqlError as error:
            if self.stopped:
                raise Stopped from error
            if error.transient:
                raise
            with self.lock:
                self.failed[number] = error
                del self.sessions[threading.current_thread()]
            psql.close()
            return
        with self.lock:
            self.digests[number].add(digest)
            self.left[number] -= 1
            self.done += digest.raw
            self.workers.progress("comparing rows", self.done, self._total)

    def _psql(self) -> RowCopy:
        """Return this thread's psql, started at its first use and after an error."""
        with self.lock:
            if self.stopped:
                raise Stopped
            thread = threading.current_thread()
            if thread not in self.sessions:
                access = Access(self.workers.binaries, self.target, self.settings, self.index.encoding)
                self.sessions[thread] = RowCopy(access)
            return self.sessions[thread]

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for psql in self.sessions.values():
                psql.kill()
        cancel(self.session)

    def _finding(self, number: int, table: Table) -> Finding | None:
        """The finding for a table; None if a failure kept it from being read, or may be why it could not be read."""
        found = self.digests[number]
        if error := self.failed.get(number):
            unclear = self.stopped and server_errors.is_servers(error.sqlstate)
            return None if unclear else _differs(table, Deviation.CHANGED, error.message)
        if self.left[number]:
            return None
        if found.rows != table.rows:
            why = f"{found.rows} rows where {table.rows} were recorded"
            return _differs(table, Deviation.CHANGED, why)
        if self.content and found.hex != table.digest:
            why = f"the content of its {table.rows} rows differs from what was recorded"
            return _differs(table, Deviation.CHANGED, why)
        return Finding(f"table {table.qualified}", Outcome.PASSED)


def _differs(table: Table | Relation, deviation: Deviation, why: str) -> Finding:
    return Finding(f"table {table.qualified}", Outcome.FAILED, why, deviation)


def _other_columns(table: Table, relation: Relation) -> str:
    """Reason why `relation` cannot contain the rows of `table`, or ""."""
    missing = sorted(set(table.columns) - set(relation.columns))
    extra = sorted(set(relation.columns) - set(table.columns))
    reasons = [f"columns are missing: {', '.join(missing)}"] if missing else []
    reasons += [f"columns were not recorded: {', '.join(extra)}"] if extra else []
    return "; ".join(reasons)


def _extra_tables(index: Index, found: Relations) -> Iterator[Finding]:
    """Report live tables that the backup does not contain.

    Empty unlogged tables are ignored: a standby has no rows of them, so its backups do not record them. A partition is
    covered if the top of its hierarchy was recorded.
    """
    recorded = {(table.schema, table.name) for table in index.tables}
    through = {found.tables[name].oid for name in recorded if name in found.tables}
    for name, relation in sorted(found.tables.items()):
        if relation.unlogged and not relation.pages:
            continue
        if relation.kind == "r" and not relation.owned and not (name in recorded or relation.root in through):
            yield _differs(relation, Deviation.EXTRA, "it was not recorded")


def sequences(index: Index) -> str:
    """What the finding about the sequences is about."""
    return f"{len(index.sequences)} sequences"


def _sequences(session: Session, codec: Codec, index: Index, relations: Relations) -> Finding:
    what = sequences(index)
    recorded = {schema_and_name(name): (value, called) for name, value, called in index.sequences}
    wrong = {name for name in recorded if name not in relations.sequences}
    if not index.partial:
        wrong |= {
            name
            for name, one in relations.sequences.items()
            if not (one.owned or one.unlogged or name in recorded)
        }
    common = sorted(relations.sequences.keys() & recorded.keys())
    for begin in range(0, len(common), _TOGETHER):
        some = common[begin : begin + _TOGETHER]
        query = (_SEQUENCE % (number, codec.quoted(*name)) for number, name in enumerate(some))
        try:
            rows = session.execute(b" UNION ALL ".join(query)).fetchall()
        except psycopg.Error as error:
            return Finding(what, Outcome.UNVERIFIED, f"cannot be read: {error.diag.message_primary}")
        found = {number: (value, called) for number, value, called in rows}
        wrong |= {name for number, name in enumerate(some) if found.get(number) != recorded[name]}
    return _compared(what, [".".join(name) for name in sorted(wrong)])


def _compared(what: str, wrong: Sequence[object]) -> Finding:
    if not wrong:
        return Finding(what, Outcome.PASSED)
    why = f"{len(wrong)} differ, the first is {wrong[0]}"
    return Finding(what, Outcome.FAILED, why, Deviation.CHANGED)


def failed(findings: tuple[Finding, ...]) -> RefnetError | None:
    """Error about a copy that differs from the record, or None."""
    wrong = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if not wrong:
        return None
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return RefnetError(
        f"the copy differs from the backup: {wrong[0].what}: {wrong[0].reason}{more}",
        "Nothing live was touched. Check the artifact with `refnet verify`.",
        Exit.DAMAGED,
    )
