"""A database compared with what an artifact recorded: every table, every large object, every sequence.

Each statement is made of names out of the database's own catalog. The index may be forged, so its names are compared
with those and put into no statement.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from refnet.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, reader_settings, server_version
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, Progress, silent
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.artifact.index_values import schema_and_name
from refnet.recovery.sources.database.artifact.sqlgz import Index, Table
from refnet.recovery.sources.database.dump import metadata
from refnet.recovery.sources.database.dump.psql_copy import Copier, PsqlError
from refnet.recovery.sources.database.rows import live_catalog
from refnet.recovery.sources.database.rows.digest import Digest, whole_lines
from refnet.recovery.sources.database.rows.live_catalog import Relation, Session, Standing
from refnet.recovery.sources.database.sql_names import Codec

#: About how much of a table one worker reads at a time (bytes of COPY text).
_SHARE = 64 << 20
_MOST_SHARES = 4096  # of one table, whatever the index says of its size
#: The reasons of a table that stands on one side alone.
NOT_THERE = "it is not there"
NOT_RECORDED = "it was not recorded"


@dataclass(frozen=True)
class _Share:
    number: int
    statement: bytes


def compare(
    target: Target,
    index: Index,
    binaries: Binaries,
    jobs: int,
    progress: Progress = silent,
    *,
    content: bool = True,
) -> tuple[Finding, ...]:
    """What of `index` the database `target` holds: a finding for each table, one for all large objects, one
    for all sequences; one alone where the encodings differ, as the same rows then have other bytes.

    Args:
        target: the database, in which nothing else writes. Its login need not be a superuser's.
        index: what was recorded; always over its column lists, by name, as a faithful restore may change order.
        binaries: psql of the server's major or newer.
        jobs: how many workers read.
        progress: told the bytes of COPY text that have passed.
        content: digests too, else row counts alone.
    """
    with live_catalog.reading(target) as (session, encoding, codec):
        if encoding != index.encoding:
            return (Finding("encoding", Outcome.FAILED, f"{encoding} where {index.encoding} was recorded"),)
        there = live_catalog.read(session, codec)
        settings = reader_settings(server_version(session))
        comparison = _Comparison(target, index, there, codec, settings, binaries, progress, content)
        return (
            *comparison.tables(jobs),
            *(() if index.partial else _not_recorded(index, there)),
            *_others(session, codec, index, there),
        )


@dataclass
class _Comparison:
    """One comparison of tables: what is compared, how it is read, and what the workers have found so far.

    `digests` are those of the index's tables, in its order; `failed`: number of a table → why it differs.
    """

    target: Target
    index: Index
    there: Standing
    codec: Codec
    settings: Mapping[str, str]
    binaries: Binaries
    progress: Progress
    content: bool
    digests: list[Digest] = field(init=False)
    failed: dict[int, str] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        self.digests = [Digest() for _ in self.index.tables]
        self._whole = sum(table.raw for table in self.index.tables)

    def tables(self, jobs: int) -> Iterator[Finding]:
        todo: queue.SimpleQueue[_Share] = queue.SimpleQueue()
        tables = sorted(enumerate(self.index.tables), key=lambda pair: -pair[1].raw)
        for number, table in tables:
            relation = self.there.tables.get((table.schema, table.name))
            reason = _unlike(table, relation)
            if relation is None or reason:
                self.failed[number] = reason
                continue
            for share in self._shares(number, table, relation):
                todo.put(share)
        with ThreadPoolExecutor(jobs) as pool:
            for worker in [pool.submit(self._work, todo) for _ in range(jobs)]:
                worker.result()
        for number, table in enumerate(self.index.tables):
            reason = self.failed.get(number) or self._difference(table, self.digests[number])
            outcome = Outcome.FAILED if reason else Outcome.PASSED
            yield Finding(f"table {table.qualified}", outcome, reason)

    def _shares(self, number: int, table: Table, relation: Relation) -> Iterator[_Share]:
        """What one worker each reads of the table: whole, or by ranges of its pages."""
        quoted = self.codec.quoted
        # The recorded order of the catalog's own columns: `_unlike` has found none that is not one of them.
        columns = b", ".join(quoted(column) for column in table.columns if column in relation.columns)
        what = columns if self.content else b"pg_catalog.count(*)"
        name = quoted(relation.schema, relation.name)
        rows = b"ONLY " + name if relation.kind == "r" else name + self._without_leaves(relation)
        select = b"SELECT %b FROM %b" % (what, rows)
        count = max(1, min(relation.pages, table.raw // _SHARE, _MOST_SHARES)) if self.content else 1
        if count == 1:
            yield _Share(number, b"COPY (%b) TO STDOUT" % select)
            return
        cuts = [relation.pages * part // count for part in range(count)]
        for first, end in zip(cuts, [*cuts[1:], None], strict=True):
            upper = b"" if end is None else b" AND ctid < '(%d,0)'" % end
            yield _Share(number, b"COPY (%b WHERE ctid >= '(%d,0)'%b) TO STDOUT" % (select, first, upper))

    def _without_leaves(self, top: Relation) -> bytes:
        """The condition that leaves out of a partitioned table the leaves that are recorded on their own."""
        recorded = (
            self.there.tables.get((one.schema, one.name)) for one in self.index.tables if not one.root
        )
        own = [str(leaf.oid) for leaf in recorded if leaf and leaf.root == top.oid]
        return b" WHERE tableoid <> ALL ('{%b}'::oid[])" % ",".join(own).encode() if own else b""

    def _work(self, todo: queue.SimpleQueue[_Share]) -> None:
        while not todo.empty():
            with Copier(self.binaries, self.target, self.settings, encoding=self.index.encoding) as copier:
                try:
                    while True:
                        share = todo.get_nowait()
                        self._read(share, copier)
                except queue.Empty:
                    return
                except PsqlError as error:
                    if server_errors.is_transient(error.message):
                        raise  # the server gave out, which is no difference
                    self.failed[share.number] = error.message

    def _read(self, share: _Share, copier: Copier) -> None:
        digest = Digest()
        if self.content:
            for data, ends in whole_lines(copier.copy(share.statement)):
                digest.feed(data, ends=ends)
        else:
            digest.rows = int(b"".join(copier.copy(share.statement)))
        self.digests[share.number].add(digest)
        self.done += digest.raw
        self.progress("comparing rows", self.done, self._whole)

    def _difference(self, table: Table, found: Digest) -> str:
        if found.rows != table.rows:
            return f"{found.rows} rows where {table.rows} were recorded"
        if self.content and found.hex != table.digest:
            return f"the content of its {table.rows} rows differs from what was recorded"
        return ""


def _unlike(table: Table, relation: Relation | None) -> str:
    """Why the rows of `table` cannot be those of `relation`, or ''."""
    if relation is None:
        return NOT_THERE
    lacking = sorted(set(table.columns) - set(relation.columns))
    more = sorted(set(relation.columns) - set(table.columns))
    reasons = [f"it lacks the columns {', '.join(lacking)}"] if lacking else []
    reasons += [f"it has columns that were not recorded: {', '.join(more)}"] if more else []
    return "; ".join(reasons)


def _not_recorded(index: Index, there: Standing) -> Iterator[Finding]:
    """A finding for each table that holds rows of its own and was not recorded, nor the top of its partitions."""
    recorded = {(table.schema, table.name) for table in index.tables}
    through = {there.tables[name].oid for name in recorded if name in there.tables}
    for name, relation in sorted(there.tables.items()):
        if relation.kind == "r" and not relation.owned and not (name in recorded or relation.root in through):
            yield Finding(f"table {relation.qualified}", Outcome.FAILED, NOT_RECORDED)


def _others(session: Session, codec: Codec, index: Index, there: Standing) -> Iterator[Finding]:
    if index.large_objects:
        yield _large_objects(session, index)
    if index.sequences:
        yield _sequences(session, codec, index, there)


def _large_objects(session: Session, index: Index) -> Finding:
    what = f"{len(index.large_objects)} large objects"
    try:
        found = {oid: (size, digest) for oid, size, digest in metadata.large_objects(session)}
    except psycopg.Error as error:
        return Finding(what, Outcome.UNVERIFIED, f"cannot be read: {error.diag.message_primary}")
    wrong = [oid for oid, size, digest in index.large_objects if found.pop(oid, None) != (size, digest)]
    return _compared(what, [*wrong, *found])


def _sequences(session: Session, codec: Codec, index: Index, there: Standing) -> Finding:
    what = f"{len(index.sequences)} sequences"
    recorded = {schema_and_name(name): (value, called) for name, value, called in index.sequences}
    wrong = {name for name in recorded if name not in there.sequences}
    if not index.partial:
        wrong |= {name for name, one in there.sequences.items() if not (one.owned or name in recorded)}
    for name in there.sequences.keys() & recorded.keys():
        try:
            found = session.execute(b"SELECT last_value, is_called FROM " + codec.quoted(*name)).fetchone()
        except psycopg.Error as error:
            return Finding(what, Outcome.UNVERIFIED, f"cannot be read: {error.diag.message_primary}")
        if found != recorded[name]:
            wrong.add(name)
    return _compared(what, [".".join(name) for name in sorted(wrong)])


def _compared(what: str, wrong: Sequence[object]) -> Finding:
    if wrong:
        return Finding(what, Outcome.FAILED, f"{len(wrong)} differ, the first is {wrong[0]}")
    return Finding(what, Outcome.PASSED)


def failed(findings: tuple[Finding, ...]) -> RefnetError | None:
    """The error of a copy that is not what was recorded, or None."""
    wrong = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if not wrong:
        return None
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return RefnetError(
        f"The copy is not what was backed up: {wrong[0].what}: {wrong[0].reason}{more}",
        "Nothing live was touched. Check the artifact with `refnet verify`.",
        Exit.DAMAGED,
    )
