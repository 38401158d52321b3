"""Loads an artifact into an empty database, in parallel and without waiting between phases.

A table that was copied in blocks gets its rows from several sessions at once; as soon as its last block is in,
its keys and indexes are built while other tables are still being filled; foreign keys follow when both ends
stand. What is left of post-data (small tables' keys, triggers, materialized views …) is pg_restore's own.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from refnet.postgres.binaries import Binaries
from refnet.postgres.private import private_folder
from refnet.postgres.session import Target, reader_settings, server_version
from refnet.recovery.model.source import Progress, silent
from refnet.recovery.sources.database import failure, toc
from refnet.recovery.sources.database.names import COPY, LONGEST_COPY, Codec
from refnet.recovery.sources.database.program import Programs, restricted
from refnet.recovery.sources.database.sqlgz import Kind, Member, Reader, Table, damaged
from refnet.recovery.sources.database.stock import for_server, refuses_lz4, without_lz4
from refnet.recovery.sources.database.tasks import Stopped, Task, run_all

#: What every loading session sets. A database that is read-only by default can still be filled. A lost commit
#: loses nothing: the copy is not live until a later commit has reached the disk. More memory made index builds slower.
LOADER_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "synchronous_commit": "off",
    "maintenance_work_mem": "64MB",
    "check_function_bodies": "off",
    "xmloption": "content",
    "client_min_messages": "warning",
}

_FEW_JOBS = 2
#: A table with more than this share of the work is left alone at the end, its index with a core to spare.
_MOST = 0.7
#: About what loading and indexing one more row costs, as bytes of COPY text.
_ROW = 200

_END = b"\\.\n"


def loader_settings(major: int) -> dict[str, str]:
    """The settings of every loading session on a server of `major`: the readers' and the loaders' own."""
    return {**reader_settings(major), **LOADER_SETTINGS}


def load(
    reader: Reader,
    target: Target,
    binaries: Binaries,
    jobs: int,
    progress: Progress = silent,
    *,
    tablespaces: bool = True,
) -> dict[str, float]:
    """Load the artifact of `reader` into the empty database `target`; seconds by phase.

    Materialized views over foreign tables stay empty, as filling them asks other servers (`foreign_views.py`).

    Raises RefnetError with the server's first error line; what was loaded by then stays in the database.
    """
    with (
        private_folder() as folder,
        _Loader(reader, target, binaries, jobs, progress, folder, tablespaces=tablespaces) as loader,
    ):
        return loader.load()


class _Loader(AbstractContextManager["_Loader"]):
    """One load: its sessions, and its children, gone when it ends; `folder` is private."""

    def __init__(
        self,
        reader: Reader,
        target: Target,
        binaries: Binaries,
        jobs: int,
        progress: Progress,
        folder: Path,
        *,
        tablespaces: bool,
    ) -> None:
        self._reader = reader
        self._index = reader.index
        self._target = target
        self._binaries = binaries
        self._jobs = jobs
        self._progress = progress
        self._folder = folder
        self._archive = folder / "schema.dump"
        self._unread = frozenset(oid for oid, _ in reader.index.foreign_views)
        self._options = [] if tablespaces else ["--no-tablespaces"]
        self._done = 0
        self._total = sum(m.raw for m in self._index.members if m.kind in {Kind.BLOCK, Kind.DATA})
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._own = threading.local()
        self._sessions: list[psycopg.Connection[tuple[Any, ...]]] = []
        with target.connect() as control:
            self._server = server_version(control)
            self._without_lz4 = refuses_lz4(control, reader.text(Kind.PRE))
        self._settings = {**loader_settings(self._server), **_build_settings(jobs, self._index.tables)}
        self._programs = Programs(target.environment(self._settings, encoding=self._index.encoding))

    def __enter__(self) -> Self:
        self._archive.write_bytes(self._index.archive)
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def load(self) -> dict[str, float]:
        began = time.monotonic()
        self._progress("schema", 0, None)
        self._create_schema()
        items = [i for i in toc.parse(self._contents()) if not (i.is_refresh and i.oid in self._unread)]
        shares = toc.share(items, self._index.tables)
        schema_done = time.monotonic()
        run_all(self._tasks(shares), self._jobs, self._stop)
        data_done = time.monotonic()
        self._progress("the rest of the schema", self._total, self._total)
        if shares.rest:
            self._restore_items("building keys and indexes", shares.rest, [f"--jobs={self._jobs}"])
        ended = time.monotonic()
        return {
            "schema": schema_done - began,
            "data": data_done - schema_done,
            "rest": ended - data_done,
        }

    def _create_schema(self) -> None:
        doing, options = "creating the schema", ["--section=pre-data"]
        if self._without_lz4:
            self._restore_as_text(doing, options)
        else:
            self._restore(doing, options)

    def _contents(self) -> str:
        listing = self._programs.run(
            [*self._tool("pg_restore"), "-l", "--section=post-data", str(self._archive)],
            "reading the schema's table of contents",
        )
        return listing.decode("utf-8", "surrogateescape")

    def _tasks(self, shares: toc.Shares) -> Iterator[Task]:
        """What can run beside each other; a table's own work is as urgent as all of it is long."""
        if self._index.members_of(Kind.DATA):
            yield Task(sum(m.raw for m in self._index.members_of(Kind.DATA)), self._load_data)
        standing: dict[int, tuple[Task, ...]] = {}
        weights = {table.oid: _weight(table) for table in self._index.tables}
        for number, table in enumerate(self._index.tables):
            if table.blocks:
                blocks = self._blocks(number, table)
                built = self._builds(table, blocks, shares)
                yield from blocks
                yield from built
                standing[table.oid] = (*blocks, *built)
        for own, other, item in shares.foreign:
            yield Task(
                weights[own],
                partial(self._restore_items, "adding foreign keys", [item]),
                after=tuple({*standing[own], *standing[other]}),
                alone=frozenset({own, other}),
            )

    def _blocks(self, number: int, table: Table) -> tuple[Task, ...]:
        return tuple(
            Task(_weight(table), partial(self._load_block, table, member))
            for member in self._index.blocks_of(number)
        )

    def _builds(self, table: Table, blocks: tuple[Task, ...], shares: toc.Shares) -> tuple[Task, ...]:
        """A key locks its table against everything, an index only against keys."""
        run = partial(partial, self._restore_items, f"building an index of {table.qualified}")
        one = frozenset({table.oid})
        weight = _weight(table)
        keys = (Task(weight + 1, run([i]), blocks, alone=one) for i in shares.keys.get(table.oid, ()))
        indexes = (Task(weight, run([i]), blocks, beside=one) for i in shares.indexes.get(table.oid, ()))
        return (*keys, *indexes)

    def _load_block(self, table: Table, member: Member) -> None:
        """One member's rows through one COPY of this thread's session."""
        pieces = self._reader.raw(member)
        text = b""
        while not (match := COPY.match(text)):
            piece = next(pieces, b"")
            if not piece or len(text) > LONGEST_COPY:
                raise damaged(self._reader.name, f"the member at byte {member.offset} holds no COPY")
            text += piece
        session = self._session()
        if not Codec.of(session, self._index.encoding).names(match, table.schema, table.name):
            what = f"the member at byte {member.offset} holds other rows than those of {table.qualified}"
            raise damaged(self._reader.name, what)
        try:
            with session.cursor() as cursor, cursor.copy(match[0].rstrip(b";\n")) as copy:
                for rows in self._rows(member, text[match.end() :], pieces):
                    copy.write(rows)
                    self._advance(len(rows))
        except psycopg.Error as error:
            if self._stopped.is_set():
                raise Stopped from error
            raise failure.of_server(error, f"loading {table.qualified}") from error

    def _rows(self, member: Member, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The rows without the line that ends them."""
        held = first
        for piece in pieces:
            if self._stopped.is_set():
                raise Stopped
            whole = held + piece
            held = whole[-len(_END) :]
            yield whole[: -len(_END)]
        if not held.endswith(_END):
            raise damaged(self._reader.name, f"the member at byte {member.offset} ends within a row")
        yield held[: -len(_END)]

    def _load_data(self) -> None:
        """pg_dump's own data section through psql, which may run no command from it."""
        text = self._data_text()
        self._programs.run(self._psql(), "loading the data", restricted(text))

    def _data_text(self) -> Iterator[bytes]:
        for member in self._index.members_of(Kind.DATA):
            for piece in self._reader.raw(member):
                yield piece
                self._advance(len(piece))

    def _restore_items(self, doing: str, items: Sequence[toc.Item], options: Sequence[str] = ()) -> None:
        """Run exactly `items` of the archive. Without --section: it would drop entries that have none of their own."""
        with tempfile.NamedTemporaryFile("w", dir=self._folder, errors="surrogateescape") as listing:
            listing.writelines(f"{item.line}\n" for item in items)
            listing.flush()
            self._restore(doing, [*options, "-L", listing.name])

    def _restore(self, doing: str, options: Sequence[str]) -> None:
        if self._server < 17 <= self._binaries.major:
            self._restore_as_text(doing, options)
            return
        database = make_conninfo(dbname=self._target.name)
        command = [*self._tool("pg_restore"), "--exit-on-error", *self._options, "-d", database]
        self._programs.run([*command, *options, str(self._archive)], doing)

    def _restore_as_text(self, doing: str, options: Sequence[str]) -> None:
        """Through psql, without what this older server refuses; by one session, as text has but one order."""
        chosen = [option for option in options if not option.startswith("--jobs")]
        command = [str(self._binaries.tool("pg_restore")), "--file=-", *self._options, *chosen]
        text = self._programs.run([*command, str(self._archive)], doing)
        text = for_server(self._server, text)
        self._programs.run(self._psql(), doing, [without_lz4(text) if self._without_lz4 else text])

    def _psql(self) -> tuple[str, ...]:
        return (*self._tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null")

    def _tool(self, name: str) -> tuple[str, ...]:
        return (str(self._binaries.tool(name)), "--no-password")

    def _session(self) -> psycopg.Connection[tuple[Any, ...]]:
        """This thread's session, opened when it is first needed."""
        if not hasattr(self._own, "session"):
            session = self._target.connect(self._settings, encoding=self._index.encoding)
            with self._lock:
                self._sessions.append(session)
            self._own.session = session
        return self._own.session  # type: ignore[no-any-return]

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress("data", self._done, self._total)

    def _stop(self) -> None:
        self._stopped.set()
        self._programs.stop()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            with suppress(psycopg.Error):
                session.cancel()


def _weight(table: Table) -> int:
    return table.raw + _ROW * table.rows


def _build_settings(jobs: int, tables: Sequence[Table]) -> dict[str, str]:
    """With few jobs every core has an index to build: what else a build starts only moves the same bytes twice."""
    if jobs > _FEW_JOBS:
        return {}
    weights = [_weight(table) for table in tables] or [0]
    workers = 1 if max(weights) > _MOST * sum(weights) else 0
    reads_ahead = dict.fromkeys(("effective_io_concurrency", "maintenance_io_concurrency"), "0")
    return {"max_parallel_maintenance_workers": str(workers), **reads_ahead}
