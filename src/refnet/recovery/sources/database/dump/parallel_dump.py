"""One artifact of a database: workers copy the large tables in ranges, pg_dump the rest, one thread writes.

The order in the file is: schema, rows in whatever order they come, the rest of the data, indexes and
constraints, index, footer. Whoever needs the order of a dump gets it: nothing refers to rows before they exist.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from refnet.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.recovery.model.artifact import utc
from refnet.recovery.model.source import Progress
from refnet.recovery.sources.database.artifact.sqlgz import (
    FIRST_LINE,
    LONGEST_SCHEMA,
    Index,
    Kind,
    Table,
    Writer,
    compress,
)
from refnet.recovery.sources.database.dump import metadata, snapshot
from refnet.recovery.sources.database.dump.copy_members import Cutter, Packed, Section, TableKey
from refnet.recovery.sources.database.dump.pgdump import TIMEOUT_17, Stock
from refnet.recovery.sources.database.dump.psql_copy import LOCK_NOT_AVAILABLE, Copier, PsqlError
from refnet.recovery.sources.database.dump.snapshot import OpenSnapshot, Relation
from refnet.recovery.sources.database.rows.digest import Digest, whole_lines

#: Tables smaller than this (bytes, TOAST included) are left to pg_dump.
LARGE = 1 << 20
#: About how much of a table one worker takes at a time (bytes on disk).
RANGE = 32 << 20
_WAITING_MEMBERS = 8
_POLL = 0.2  # seconds after which a waiting producer looks whether the run was given up

_HEADER = b"""\
-- Restore it with RefNet, or with stock tools into an empty database: zcat FILE | psql -v ON_ERROR_STOP=1
-- Its roles must be there: the index at the end of this file names them.
"""
_READERS = b"""\
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET lc_monetary = 'C';
"""


@dataclass(frozen=True)
class Range:
    """Part of a table: rows whose ctid lies in pages [first, end); `end` None: to the end, wherever that is."""

    relation: Relation
    columns: tuple[str, ...]
    first: int
    end: int | None
    size: int

    def select(self, held: OpenSnapshot) -> bytes:
        columns = b", ".join(held.codec.quoted(column) for column in self.columns)
        upper = b"" if self.end is None else f" AND ctid < '({self.end},0)'".encode()
        only = held.codec.quoted(self.relation.schema, self.relation.name)
        return b"SELECT %b FROM ONLY %b WHERE ctid >= '(%d,0)'%b" % (columns, only, self.first, upper)


def ranges(relation: Relation, columns: tuple[str, ...]) -> list[Range]:
    """`relation` cut into ranges of about RANGE bytes, by pages; the last one is open-ended."""
    count = max(1, min(relation.pages, round(relation.size / RANGE)))
    cuts = [relation.pages * number // count for number in range(count)]
    ends = [*cuts[1:], None]
    return [Range(relation, columns, a, b, relation.size // count) for a, b in zip(cuts, ends, strict=True)]


def dump(
    target: Target,
    binaries: Callable[[int], Binaries],
    out: BinaryIO,
    jobs: int,
    tables: tuple[str, ...],
    progress: Progress,
) -> Index:
    """Write the artifact of the database `target` to `out` and return its index.

    Args:
        target: the database.
        binaries: the client programs for a server's major version.
        out: where the artifact goes, append only.
        jobs: how many workers copy the large tables.
        tables: `table` or `schema.table`; empty: everything.
        progress: told the bytes of text that have passed.
    """
    with snapshot.hold(target) as held, private_folder() as folder:
        index = _Run(held, binaries(held.major), folder, out, jobs, tables, progress).go()
        held.check_alive()
        return index


class _Run:
    """The threads of one dump and what they share."""

    def __init__(
        self,
        held: OpenSnapshot,
        binaries: Binaries,
        folder: Path,
        out: BinaryIO,
        jobs: int,
        tables: tuple[str, ...],
        progress: Progress,
    ) -> None:
        self._held, self._binaries, self._jobs, self._progress = held, binaries, jobs, progress
        self._only = snapshot.chosen(held.relations, tables, snapshot.parents(held)) if tables else ()
        heaps = held.whole_heaps(LARGE)
        self._large = tuple(r for r in heaps if r in self._only) if tables else heaps
        self._key = secrets.token_hex(24)
        self._stock = Stock(binaries, held, folder, self._key, self._only)
        self._section = Section(
            self._put, held.codec, self._key.encode(), [TIMEOUT_17] if held.major < 17 else []
        )
        self._writer = Writer(out)
        self._tables = _Tables(held, self._large)
        self._packed: queue.Queue[Packed | BaseException | None] = queue.Queue(_WAITING_MEMBERS)
        self._stop = threading.Event()
        self._copiers: set[Copier] = set()

    def go(self) -> Index:
        todo: queue.SimpleQueue[Range] = queue.SimpleQueue()
        for relation in sorted(self._large, key=lambda r: -r.size):
            for one in ranges(relation, self._tables.columns[relation.oid]):
                todo.put(one)
        producers = [threading.Thread(target=self._guarded, args=(lambda: self._copy_all(todo),))]
        producers[0].start()
        try:
            self._stock.dump_schema()
            self._add_text(Kind.PRE, self._begin())
            producers.append(threading.Thread(target=self._guarded, args=(self._rest,)))
            producers[1].start()
            post = self._stock.text("post-data") + self._unrestrict
            self._write(len(producers))
            self._add_text(Kind.POST, post)
            index = self._index()
        finally:
            self._stop.set()
            for copier in list(self._copiers):
                copier.kill()
            for producer in producers:
                producer.join()
        self._writer.finish(index)
        return index

    # The thread that writes.

    def _begin(self) -> bytes:
        restrict = b"\\restrict %b\n" % self._key.encode()
        self._unrestrict = restrict.replace(b"restrict", b"unrestrict")
        return FIRST_LINE + _HEADER + restrict + self._stock.text("pre-data") + _READERS

    def _add_text(self, kind: Kind, text: bytes) -> None:
        if len(text) > LONGEST_SCHEMA:
            raise RefnetError(
                f"the {kind} of this database is {len(text):,} bytes, more than the {LONGEST_SCHEMA:,} that RefNet reads",
                "Drop tables that are not needed, or back up some tables at a time (`refnet backup database --table`).",
            )
        self._writer.add(*compress([text]), kind)

    def _write(self, producers: int) -> None:
        done = 0
        while producers:
            item = self._packed.get()
            if item is None:
                producers -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                number = self._tables.count(item)
                digest = item.digest.hex if number is not None else ""
                self._writer.add(
                    item.data, item.raw, item.kind, table=number, rows=item.digest.rows, digest=digest
                )
                done += item.raw
                self._progress("copying rows", done, None)

    def _index(self) -> Index:
        held, section = self._held, self._section
        bootstrap = f" {metadata.bootstrap_superuser(held)}\n" in self._stock.entries()
        return Index(
            database=metadata.database(held),
            server={**metadata.server(held), "pg_dump": self._binaries.version},
            snapshot=utc(held.moment),
            encoding=held.encoding,
            restrict_key=self._key,
            archive=self._stock.archive.read_bytes(),
            members=tuple(self._writer.members),
            tables=self._tables.finished(section.columns),
            sequences=tuple(section.sequences),
            large_objects=() if self._only else metadata.large_objects(held.control),
            roles=metadata.roles(held, bootstrap=bootstrap),
            tablespaces=metadata.tablespaces(held),
            extensions=metadata.extensions(held),
            foreign_views=metadata.foreign_views(held),
            partial=bool(self._only),
            unchecked=(*metadata.unchecked(held), *self._newer_programs()),
        )

    def _newer_programs(self) -> Iterator[str]:
        if self._binaries.major != self._held.major:
            yield (
                f"pg_dump {self._binaries.version} made it of a server {self._held.major}, for want of its own programs:"
                " that server may refuse some of its settings"
            )

    # The threads that make members.

    def _guarded(self, make: Callable[[], None]) -> None:
        """Run `make`; hand whatever stops it to the thread that writes, which raises it."""
        ended: BaseException | None = None
        try:
            make()
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that writes
            ended = error
        with contextlib.suppress(_GivenUpError):
            self._put(ended)

    def _put(self, item: Packed | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._packed.put(item, timeout=_POLL)
            except queue.Full:
                continue
        raise _GivenUpError

    def _rest(self) -> None:
        with self._stock.data(self._large) as pieces:
            self._section.read(pieces)

    def _copy_all(self, todo: queue.SimpleQueue[Range]) -> None:
        blocked: list[Range] = []
        with ThreadPoolExecutor(self._jobs) as pool:
            for worker in [
                pool.submit(self._work, todo, blocked) for _ in range(min(self._jobs, todo.qsize()))
            ]:
                worker.result()
        for one in blocked:
            with self._held.control.cursor() as cursor, cursor.copy(self._statement(one)) as rows:
                self._cut(one, (bytes(row) for row in rows))

    def _work(self, todo: queue.SimpleQueue[Range], blocked: list[Range]) -> None:
        """Copy ranges until none is left. One that another session waits to change is left to the control session."""
        while not todo.empty():
            with self._copier() as copier:
                try:
                    while True:
                        one = todo.get_nowait()
                        name = self._held.codec.quoted(one.relation.schema, one.relation.name)
                        lock = b"LOCK TABLE ONLY %b IN ACCESS SHARE MODE NOWAIT;\n" % name
                        self._cut(one, copier.copy(self._statement(one), lock=lock))
                except queue.Empty:
                    return
                except PsqlError as error:
                    if error.sqlstate != LOCK_NOT_AVAILABLE:
                        raise
                    blocked.append(one)

    @contextlib.contextmanager
    def _copier(self) -> Iterator[Copier]:
        held = self._held
        with Copier(
            self._binaries, held.target, held.reader_settings, encoding=held.encoding, snapshot=held.id
        ) as copier:
            self._copiers.add(copier)
            try:
                yield copier
            finally:
                self._copiers.discard(copier)

    def _statement(self, one: Range) -> bytes:
        return b"COPY (%b) TO STDOUT" % one.select(self._held)

    def _cut(self, one: Range, chunks: Iterable[bytes]) -> None:
        quoted = self._held.codec.quoted
        columns = b", ".join(quoted(column) for column in one.columns)
        head = b"COPY %b (%b) FROM stdin;\n" % (quoted(one.relation.schema, one.relation.name), columns)
        Cutter(Kind.BLOCK, self._put).rows(
            (one.relation.schema, one.relation.name), head, whole_lines(chunks), even_none=False
        )


class _GivenUpError(Exception):
    """The thread that writes has stopped, so nobody takes what is made."""


class _Tables:
    """The tables of an artifact in the order in which their members come, and their digests."""

    def __init__(self, held: OpenSnapshot, large: tuple[Relation, ...]) -> None:
        self.columns = held.columns(large)
        self._keys, self._foreign_keys = held.keys(large)
        self._of_blocks = {(r.schema, r.name): r for r in large}
        self._by_name = {(r.schema, r.name): r for r in held.relations}
        self._digests: dict[TableKey, Digest] = {key: Digest() for key in self._of_blocks}
        self._numbers = {key: number for number, key in enumerate(self._digests)}

    def count(self, packed: Packed) -> int | None:
        """Add a member's rows to its table; the table's number, or None where the member has none."""
        if packed.table is None:
            return None
        self._digests.setdefault(packed.table, Digest()).add(packed.digest)
        return self._numbers.setdefault(packed.table, len(self._numbers))

    def finished(self, columns: dict[TableKey, tuple[str, ...]]) -> tuple[Table, ...]:
        """Every table; `columns` are those of the tables that pg_dump copied."""
        return tuple(self._finished(key, digest, columns) for key, digest in self._digests.items())

    def _finished(self, key: TableKey, digest: Digest, columns: dict[TableKey, tuple[str, ...]]) -> Table:
        schema, name = key
        own = self._of_blocks.get(key)
        relation = self._by_name.get(key)
        oid = relation.oid if relation else 0
        return Table(
            schema,
            name,
            self.columns[oid] if own else columns[key],
            blocks=own is not None,
            root=relation is not None and relation.kind == "p",
            rows=digest.rows,
            raw=digest.raw,
            digest=digest.hex,
            oid=oid,
            keys=self._keys.get(oid, ()),
            foreign_keys=self._foreign_keys.get(oid, {}),
        )
