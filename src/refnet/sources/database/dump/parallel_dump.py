"""Write one artifact of a database: workers copy the large tables in ranges, pg_dump the rest, one thread writes.

Order in the file: schema, rows as they arrive, indexes and constraints, index, footer. So nothing refers to later rows.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO, Protocol, Self

from refnet.catalog.artifact import Made, Progress, Turn, at_once, silent
from refnet.catalog.manifest import Compared, utc
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.postgres.tempdirs import private_folder
from refnet.sources.database.artifact.deflating import compress
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.member_rows import Cutter, DataSection, Packed, gathered
from refnet.sources.database.artifact.sqlgz import DROP_PUBLIC, FIRST_LINE, LONGEST_SCHEMA, Writer
from refnet.sources.database.dump import metadata
from refnet.sources.database.dump.not_dumped import not_dumped
from refnet.sources.database.dump.pgdump import TIMEOUT_17, PgDump, too_large_row
from refnet.sources.database.dump.psql_copy import LOCK_NOT_AVAILABLE, Access, PsqlError
from refnet.sources.database.dump.row_copy import Range, RowCopy, ranges
from refnet.sources.database.dump.snapshot import clock_warnings, open_snapshot
from refnet.sources.database.dump.source_rows import DEFAULT, CopiedTables, DumpOptions, SourceRows
from refnet.sources.database.workers import Stopped, Workers

#: pg_dump copies the tables that are smaller than this (bytes, TOAST included).
LARGE = 1 << 20
#: Batches of members that wait to be written, and bytes of a batch: waking a thread costs more than a small table's rows.
_WAITING, _BATCH = 8, 1 << 20
_LARGE_OBJECTS = "SELECT pg_table_size('pg_largeobject')"
#: Characters of a dump for each byte of a large object.
_HEXADECIMAL = 2
_POLL = 0.2  # seconds after which a waiting producer checks for a stop

_HEADER = b"""\
-- Restore it with RefNet, or with stock tools into an empty database: zcat FILE | psql -v ON_ERROR_STOP=1
-- Its roles must be there: the index at the end of this file names them.
"""
_READERS = b"""\
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET lc_monetary = 'C';
"""


def dump(
    target: Target,
    out: BinaryIO,
    workers: Workers,
    tables: tuple[str, ...] = (),
    options: DumpOptions = DEFAULT,
) -> Index:
    """Write the artifact of the database `target` to `out` and return its index.

    Args:
        target: the database.
        out: receives the artifact; append only.
        workers: copy the large tables; their progress receives the bytes of tables and large objects, on the server's disk, that are
            copied.
        tables: `table` or `schema.table`; empty: everything.
        options: of the comparison with the source, and of its beginning.

    SourceDiffersError where the server counts other rows.
    """
    with open_snapshot(target, entire=not tables) as snapshot, private_folder() as folder:
        options.turn()
        pgdump = PgDump(workers.binaries, snapshot, folder, snapshot.chosen(tables))
        if target.pooled:
            pgdump.check_settings()
        index = _DumpRun(pgdump, Writer(out), workers, options).go()
        snapshot.check_alive()
        return index


@dataclass(frozen=True)
class DatabaseMaker:
    """Makes the artifacts of a database."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    jobs: int
    #: `table` or `schema.table`; empty: everything.
    tables: tuple[str, ...] = ()
    #: The server digests the rows of at most so many bytes of tables; else it only counts them.
    digest_up_to: int = 0
    #: The rows are those of this moment; None: of now, by the server's clock.
    as_of: datetime | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def digesting(self, up_to: int) -> Self:
        return replace(self, digest_up_to=up_to)

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        target = self.target()
        with target.connect(READER_SETTINGS) as session:
            warnings = clock_warnings(session, self.now)
            binaries = self.binaries(server_version(session))
            portable = bool(self.digest_up_to) and self._proves_with_another(server_version(session))
        options = DumpOptions(turn, self.digest_up_to, portable, self.as_of)
        index = dump(target, out, Workers(binaries, self.jobs, progress), self.tables, options)
        digested = any(table.source for table in index.tables)
        compared = Compared.DIGESTED if digested else Compared.COUNTED
        return replace(index.made(), warnings=warnings, compared=compared)

    def _proves_with_another(self, major: int) -> bool:
        """Whether proofs on this machine use a server of another major version."""
        try:
            return self.binaries(major, server=True).major != major
        except RefnetError:
            return True


class _Child(Protocol):
    def kill(self) -> None: ...


class _DumpRun:
    """The threads of one dump and what they share."""

    def __init__(self, pgdump: PgDump, writer: Writer, workers: Workers, options: DumpOptions) -> None:
        self._pgdump, self._writer, self._workers = pgdump, writer, workers
        self._snapshot = snapshot = pgdump.snapshot
        self._large = tuple(r for r in snapshot.heaps(LARGE) if not pgdump.only or r in pgdump.only)
        self._tables = CopiedTables(snapshot, self._large)
        self._source = SourceRows(snapshot, pgdump.only, options)
        self._as_of = options.as_of
        left_out = [TIMEOUT_17] if snapshot.major < 17 else []
        self._section = DataSection(self._gather, snapshot.codec, pgdump.restrict_key.encode(), left_out)
        self._todo: queue.SimpleQueue[Range] = queue.SimpleQueue()
        #: Ranges of tables that another session waits to change.
        self._blocked: list[Range] = []
        #: What the producers made; None: one of them has ended.
        self._made: queue.Queue[Sequence[Packed] | None] = queue.Queue(_WAITING)
        #: Members of small tables that are not among them yet, and their bytes.
        self._batch: list[Packed] = []
        self._in_batch = 0
        #: Bytes of tables and large objects on the server's disk.
        self._done, self._total = 0, self._bytes_to_copy()
        self._counting = threading.Lock()
        self._producers: list[threading.Thread] = []
        self._children: set[_Child] = set()
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def go(self) -> Index:
        for relation in sorted(self._large, key=lambda r: -r.size):
            for part in ranges(relation):
                self._todo.put(part)
        try:
            for _ in range(min(self._workers.jobs, self._todo.qsize())):
                self._start(self._copy_then_count)
            # Their members wait until the schema is written: with thousands of tables, it takes as long as the rows.
            self._start(self._copy_rest)
            self._start(self._source.count)
            self._pgdump.dump_schema()
            facts = self._facts()  # of the snapshot, like the rows: beside the copying, not after it
            self._add_text(MemberKind.PRE, self._begin(facts))
            post = self._pgdump.text("post-data") + self._restrict(b"\\unrestrict")
            self._write()
            self._source.compare(self._tables.rows)
            self._advance(self._total)
            self._add_text(MemberKind.POST, post)
            index = self._index(facts)
        finally:
            self._halt()
            for producer in self._producers:
                producer.join()
        self._writer.finish(index)
        return index

    def _halt(self) -> None:
        """End the child processes; a producer that puts another member gets Stopped."""
        self._stop.set()
        for child in (self._source, *self._children):
            child.kill()

    # The thread that writes.

    def _begin(self, facts: Index) -> bytes:
        pre = self._pgdump.text("pre-data")
        without = DROP_PUBLIC if facts.database.get("without_public") else b""
        return FIRST_LINE + _HEADER + self._restrict(b"\\restrict") + without + pre + _READERS

    def _restrict(self, command: bytes) -> bytes:
        return b"%b %b\n" % (command, self._pgdump.restrict_key.encode())

    def _add_text(self, kind: MemberKind, text: bytes) -> None:
        if len(text) > LONGEST_SCHEMA:
            raise RefnetError(
                f"the {kind} of this database is {len(text):,} bytes, more than the {LONGEST_SCHEMA:,} that RefNet reads",
                "Drop tables that are not needed, or back up some tables at a time (`refnet backup SOURCE --table`).",
            )
        self._writer.add(*compress([text]), kind)

    def _write(self) -> None:
        """Write the producers' members until all have ended, then copy blocked ranges; raise the first failure."""
        running = len(self._producers)
        while running:
            made = self._made.get()
            if self._failure:
                raise self._failure
            if made is None:
                running -= 1
            for packed in made or ():
                self._add(packed)
        for part in self._blocked:
            with self._snapshot.control.cursor() as cursor, cursor.copy(self._statement(part)) as rows:
                self._cut(part, gathered(rows), self._add)
            self._advance(part.size)

    def _add(self, packed: Packed) -> None:
        self._advance(self._tables.size_if_new(packed))
        table = self._tables.count(packed)
        self._writer.add(
            packed.data, packed.raw, packed.kind, table=table, rows=packed.rows, text=packed.text
        )
        if table is None and packed.kind is MemberKind.DATA:
            self._advance(packed.raw // _HEXADECIMAL)

    def _bytes_to_copy(self) -> int:
        tables = sum(relation.size for relation in self._pgdump.only or self._snapshot.relations)
        large_objects = 0 if self._pgdump.only else self._snapshot.rows(_LARGE_OBJECTS)[0][0]
        return int(tables + large_objects)

    def _advance(self, count: int) -> None:
        with self._counting:
            self._done = min(self._done + count, self._total)
            self._workers.progress("copying rows", self._done, self._total)

    def _facts(self) -> Index:
        """Return the index without what comes from the rows."""
        snapshot, pgdump = self._snapshot, self._pgdump
        bootstrap = f" {metadata.bootstrap_superuser(snapshot)}\n" in pgdump.entries()
        return Index(
            database=metadata.database(snapshot),
            server={**metadata.server(snapshot), "pg_dump": pgdump.binaries.version},
            snapshot=utc(self._as_of or snapshot.moment),
            encoding=snapshot.encoding,
            restrict_key=pgdump.restrict_key,
            archive=pgdump.archive.read_bytes(),
            roles=metadata.roles(snapshot, bootstrap=bootstrap),
            tablespaces=metadata.tablespaces(snapshot),
            extensions=metadata.extensions(snapshot),
            foreign_views=metadata.foreign_views(snapshot),
            partial=bool(pgdump.only),
            unchecked=(*not_dumped(snapshot), *self._newer_programs()),
        )

    def _index(self, facts: Index) -> Index:
        section, source = self._section, self._source
        return replace(
            facts,
            members=tuple(self._writer.members),
            tables=self._tables.finished(section.columns, source.digested),
            sequences=tuple(section.sequences),
            large_objects=tuple(source.large_objects),
            views=tuple(source.views),
            unchecked=(*facts.unchecked, *source.unchecked()),
        )

    def _newer_programs(self) -> Iterator[str]:
        binaries, major = self._workers.binaries, self._snapshot.major
        if binaries.major != major:
            yield (
                f"dumped by pg_dump {binaries.version}, because pg_dump {major} is not installed:"
                f" a server {major} may refuse some of its settings"
            )

    # The threads that make members.

    def _start(self, make: Callable[[], None]) -> None:
        producer = threading.Thread(target=self._produce, args=(make,))
        producer.start()
        self._producers.append(producer)

    def _produce(self, make: Callable[[], None]) -> None:
        """Run `make`; if it fails, stop the other producers and the thread that writes at once."""
        try:
            make()
            self._put(None)
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that writes
            self._failure = self._failure or error
            self._halt()
            with contextlib.suppress(queue.Full):
                self._made.put_nowait(None)  # wakes it

    def _gather(self, packed: Packed) -> None:
        """Put the members of pg_dump's output in batches."""
        self._batch.append(packed)
        self._in_batch += len(packed.data)
        if self._in_batch >= _BATCH:
            self._put(self._batch)
            self._batch, self._in_batch = [], 0

    def _put(self, made: Sequence[Packed] | None) -> None:
        while not self._stop.is_set():
            try:
                return self._made.put(made, timeout=_POLL)
            except queue.Full:
                continue
        raise Stopped

    @contextlib.contextmanager
    def _running(self, child: _Child) -> Iterator[None]:
        """Register `child`, to be killed when the run stops."""
        self._children.add(child)
        try:
            if self._stop.is_set():
                raise Stopped
            yield
        finally:
            self._children.discard(child)

    def _copy_rest(self) -> None:
        with self._pgdump.data(self._large) as (child, output), self._running(child):
            self._section.read(output)
            self._put(self._batch)

    def _copy_then_count(self) -> None:
        self._copy_ranges()
        self._source.help()

    def _copy_ranges(self) -> None:
        """Copy all ranges, except those of tables that another session waits to change."""
        while not self._todo.empty():
            locked = set[int]()  # what a session locks stays locked
            with self._rows() as rows, self._running(rows):
                try:
                    while True:
                        part = self._todo.get_nowait()
                        table, lock = part.relation.oid, b""
                        if table not in locked:
                            if any(one.relation.oid == table for one in self._blocked):
                                self._blocked.append(part)
                                continue
                            lock = b"LOCK TABLE ONLY %b IN ACCESS SHARE MODE NOWAIT;\n" % self._name(part)
                        pieces = rows.copy(self._statement(part), lock=lock, long=part.is_long)
                        self._cut(part, pieces, lambda packed: self._put((packed,)))
                        locked.add(table)
                        self._advance(part.size)
                except queue.Empty:
                    return
                except PsqlError as error:
                    if error.sqlstate != LOCK_NOT_AVAILABLE:
                        if explained := too_large_row(error.message, self._snapshot, part.relation):
                            raise explained from error
                        raise
                    self._blocked.append(part)

    def _rows(self) -> RowCopy:
        snapshot, binaries = self._snapshot, self._workers.binaries
        return RowCopy(
            Access(binaries, snapshot.target, snapshot.reader_settings, snapshot.encoding, snapshot.id)
        )

    def _name(self, part: Range) -> bytes:
        return self._snapshot.codec.quoted(part.relation.schema, part.relation.name)

    def _columns(self, part: Range) -> bytes:
        return self._snapshot.codec.listed(self._tables.columns[part.relation.oid])

    def _statement(self, part: Range) -> bytes:
        parts = (self._columns(part), self._name(part), part.where)
        return b"COPY (SELECT %b FROM ONLY %b WHERE %b) TO STDOUT" % parts

    def _cut(self, part: Range, chunks: Iterable[bytes], emit: Callable[[Packed], None]) -> None:
        head = b"COPY %b (%b) FROM stdin;\n" % (self._name(part), self._columns(part))
        key = (part.relation.schema, part.relation.name)
        Cutter(MemberKind.BLOCK, emit).rows(key, head, chunks, even_none=False)
