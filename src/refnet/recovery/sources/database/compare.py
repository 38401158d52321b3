"""A database compared with what an artifact recorded: every table, every large object, every sequence."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, reader_settings, server_version
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, Progress, silent
from refnet.recovery.sources.database import failure, state
from refnet.recovery.sources.database.copier import Copier, PsqlError
from refnet.recovery.sources.database.digest import Digest, whole_lines
from refnet.recovery.sources.database.names import Codec
from refnet.recovery.sources.database.sqlgz import Index, Table

#: About how much of a table one worker reads at a time (bytes of COPY text).
_SHARE = 64 << 20

_PAGES = """
SELECT n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END,
       c.oid::int8, pg_partition_root(c.oid)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
"""


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
    for all sequences.

    Args:
        target: the database, in which nothing else writes.
        index: what was recorded; always over its column lists, by name, as a faithful restore may change order.
        binaries: psql of the server's major or newer.
        jobs: how many workers read.
        progress: told the bytes of COPY text that have passed.
        content: digests too, else row counts alone.
    """
    return (
        *_Comparison(target, index, binaries, jobs, progress, content=content).tables(),
        *_others(target, index),
    )


class _Comparison:
    def __init__(
        self,
        target: Target,
        index: Index,
        binaries: Binaries,
        jobs: int,
        progress: Progress,
        *,
        content: bool,
    ) -> None:
        self._target, self._index, self._binaries, self._jobs = target, index, binaries, jobs
        self._progress, self._content = progress, content
        with target.connect(READER_SETTINGS, encoding=index.encoding) as connection:
            self._settings = reader_settings(server_version(connection))
            self._codec = codec = Codec.of(connection, index.encoding)
            rows = connection.execute(_PAGES).fetchall()
        decode = codec.decode
        self._there = {(decode(s), decode(n)): (decode(kind), *found) for s, n, kind, *found in rows}
        self._digests = [Digest() for _ in index.tables]
        self._failed: dict[int, str] = {}
        self._done, self._whole = 0, sum(table.raw for table in index.tables)

    def tables(self) -> Iterator[Finding]:
        todo: queue.SimpleQueue[_Share] = queue.SimpleQueue()
        tables = sorted(enumerate(self._index.tables), key=lambda pair: -pair[1].raw)
        for number, table in tables:
            for share in self._shares(number, table):
                todo.put(share)
        with ThreadPoolExecutor(self._jobs) as pool:
            for worker in [pool.submit(self._work, todo) for _ in range(self._jobs)]:
                worker.result()
        for number, table in enumerate(self._index.tables):
            reason = self._failed.get(number) or self._difference(table, self._digests[number])
            outcome = Outcome.FAILED if reason else Outcome.PASSED
            yield Finding(f"table {table.qualified}", outcome, reason)

    def _shares(self, number: int, table: Table) -> Iterator[_Share]:
        quoted = self._codec.quoted
        kind, pages, oid, _ = self._there.get((table.schema, table.name), ("", 0, 0, None))
        if not kind:
            self._failed[number] = "it is not there"
            return
        columns = b", ".join(map(quoted, table.columns))
        what = columns if self._content else b"pg_catalog.count(*)"
        rows = b"ONLY " + quoted(table.schema, table.name) if kind == "r" else self._through(table, oid)
        select = b"SELECT %b FROM %b" % (what, rows)
        count = max(1, min(pages, table.raw // _SHARE)) if self._content else 1
        if count == 1:
            yield _Share(number, b"COPY (%b) TO STDOUT" % select)
            return
        cuts = [pages * part // count for part in range(count)]
        for first, end in zip(cuts, [*cuts[1:], None], strict=True):
            upper = b"" if end is None else b" AND ctid < '(%d,0)'" % end
            yield _Share(number, b"COPY (%b WHERE ctid >= '(%d,0)'%b) TO STDOUT" % (select, first, upper))

    def _through(self, table: Table, oid: int) -> bytes:
        """A partitioned table without its leaves that are recorded on their own."""
        recorded = (
            self._there.get((other.schema, other.name)) for other in self._index.tables if not other.root
        )
        own = [leaf for _, _, leaf, root in filter(None, recorded) if root == oid]
        without = b" WHERE tableoid <> ALL ('{%b}'::oid[])" % ",".join(map(str, own)).encode()
        return self._codec.quoted(table.schema, table.name) + (without if own else b"")

    def _work(self, todo: queue.SimpleQueue[_Share]) -> None:
        while not todo.empty():
            with Copier(
                self._binaries, self._target, self._settings, encoding=self._index.encoding
            ) as copier:
                try:
                    while True:
                        share = todo.get_nowait()
                        self._read(share, copier)
                except queue.Empty:
                    return
                except PsqlError as error:
                    if failure.passes(error.message):
                        raise  # the server gave out, which is no difference
                    self._failed[share.number] = error.message

    def _read(self, share: _Share, copier: Copier) -> None:
        digest = Digest()
        if self._content:
            for data, ends in whole_lines(copier.copy(share.statement)):
                digest.feed(data, ends=ends)
        else:
            digest.rows = int(b"".join(copier.copy(share.statement)))
        self._digests[share.number].add(digest)
        self._done += digest.raw
        self._progress("comparing rows", self._done, self._whole)

    def _difference(self, table: Table, found: Digest) -> str:
        if found.rows != table.rows:
            return f"{found.rows} rows where {table.rows} were recorded"
        if self._content and found.hex != table.digest:
            return f"the content of its {table.rows} rows differs from what was recorded"
        return ""


def _others(target: Target, index: Index) -> Iterator[Finding]:
    with target.connect(READER_SETTINGS, encoding=index.encoding) as connection:
        if index.large_objects:
            yield _large_objects(connection, index)
        if index.sequences:
            yield _sequences(connection, index)


def _large_objects(connection: psycopg.Connection[tuple[Any, ...]], index: Index) -> Finding:
    what = f"{len(index.large_objects)} large objects"
    try:
        found = {oid: (size, digest) for oid, size, digest in state.large_objects(connection)}
    except psycopg.Error as error:
        return Finding(what, Outcome.UNVERIFIED, f"cannot be read: {error.diag.message_primary}")
    wrong = [oid for oid, size, digest in index.large_objects if found.pop(oid, None) != (size, digest)]
    wrong += list(found)
    if wrong:
        return Finding(what, Outcome.FAILED, f"{len(wrong)} differ, the first is {wrong[0]}")
    return Finding(what, Outcome.PASSED)


def _sequences(connection: psycopg.Connection[tuple[Any, ...]], index: Index) -> Finding:
    what = f"{len(index.sequences)} sequences"
    codec = Codec.of(connection, index.encoding)
    wrong = []
    for name, value, called in index.sequences:
        try:
            row = connection.execute(b"SELECT last_value, is_called FROM " + codec.encode(name)).fetchone()
        except psycopg.Error:
            row = None
        if row != (value, called):
            wrong.append(name)
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
