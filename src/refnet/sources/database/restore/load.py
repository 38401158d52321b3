"""Loads an artifact into an empty database, in parallel and without waiting between phases.

Several sessions load a table that was copied in blocks. After its last block its keys and indexes are built, while
other tables are still loading; a foreign key follows when both its tables are complete. pg_restore does the rest of
post-data (small tables' keys, triggers, materialized views …).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Self

import psycopg

from refnet.postgres.preparing import statements
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.postgres.tempdirs import private_folder
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index, Member, Table
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.member_rows import Digest, Lines, complete_lines, copy_body, cut_short
from refnet.sources.database.artifact.sqlgz import DROP_PUBLIC, Reader
from refnet.sources.database.dump.pgdump import refuses_lz4
from refnet.sources.database.proof.guarded_schema import GuardedSchema, Logins
from refnet.sources.database.proof.row_digests import MemberRows
from refnet.sources.database.restore import schema_archive
from refnet.sources.database.restore.large_objects import DataText
from refnet.sources.database.restore.left_out import LateChecks, Leaves, LeftOut, refuses_rows
from refnet.sources.database.restore.loader_settings import (
    MOST_WORKERS,
    WORKERS,
    build_settings,
    in_one_piece,
    loader_settings,
    time_zone,
)
from refnet.sources.database.restore.own_schema import LateExtensions, OwnSchema
from refnet.sources.database.restore.schema_archive import Archive, Step
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.sql_text import COPY, Codec
from refnet.sources.database.workers import Programs, Stopped, Task, Workers, restricted, run_all

#: About what loading and indexing one more row costs, as bytes of COPY text.
_ROW = 200

_OWNERS = """
SELECT n.nspname::text, c.relname::text, c.relowner::int8 FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
"""


@dataclass(frozen=True)
class How:
    """Options for loading an artifact."""

    #: Of the scratch server that it is loaded into. Nothing then goes into a tablespace, and each table's rows are
    #: loaded by a session of its owner. None: the login of the target does everything.
    logins: Logins | None = None
    #: Gets the digest of all rows that are sent to a scratch server, unless the index has them.
    rows: MemberRows | None = None
    #: The checks of tables and domains come after the rows.
    checks_last: bool = False
    #: The indexes that are no keys come after the rows, one by one.
    indexes_last: bool = False
    #: Gets the extensions that are created later. None: each is created now.
    late: LateExtensions | None = None

    def after(self, error: ServerError, index: Index) -> How | None:
        """Options for another attempt after `error`; None if it is final."""
        if refuses_rows(error) and not self.checks_last:
            return replace(self, checks_last=True)
        if error.is_of_index and not self.indexes_last:
            return replace(self, indexes_last=True)
        return self if self.late and self.late.refused(error, index) else None


def load(
    reader: Reader,
    target: Target,
    workers: Workers,
    how: How | None = None,
    again: Callable[[], None] | None = None,
) -> tuple[LeftOut, ...]:
    """Load the artifact of `reader` into the empty database `target`; return objects that no server accepts.

    Materialized views over foreign tables stay empty, as filling them queries other servers (`after_load.py`).

    again: empties `target` for another attempt; without it, a violated check ends the load.

    Raises RefnetError with the server's first error line; what was loaded by then stays in the database.
    """
    how, refused = how or How(), list[ServerError]()
    while True:
        try:
            with Loader(reader, target, workers, how) as loader:
                return loader.load()
        except ServerError as error:
            other = again and how.after(error, reader.index)
            if again is None or other is None:
                if refused:
                    raise refused[0] from error
                raise
            refused += [error] if other is how else []  # an extension, which others may need
            how = other
        again()


class Loader(AbstractContextManager["Loader"]):
    """One load, with its sessions and child processes."""

    def __init__(self, reader: Reader, target: Target, workers: Workers, how: How) -> None:
        self._reader = reader
        self._index = reader.index
        self._target = target
        self._workers = workers
        self._logins = how.logins
        #: The login that creates what can run code of an owner.
        self._login = how.logins.as_builder(target.name) if how.logins else target
        #: Gets the digests of the rows.
        self._rows = None if reader.index.digests else how.rows
        if self._rows:
            self._rows.clear()
        #: Has the checks that are added after the rows.
        self._late = LateChecks() if how.checks_last else None
        #: The indexes that are no keys come after the rows.
        self._indexes_last = how.indexes_last
        #: Has the extensions that are created later.
        self._extensions = how.late
        self._unread = frozenset(oid for oid, _ in reader.index.foreign_views)
        self._done = 0
        self._total = sum(m.raw for m in self._index.members if m.kind in {MemberKind.BLOCK, MemberKind.DATA})
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._own = threading.local()
        self._sessions: list[Session] = []
        self._owners: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        workers, is_scratch = self._workers, self._logins is not None
        with self._target.connect(READER_SETTINGS, encoding=self._index.encoding) as control:
            server = server_version(control)
            self._codec = Codec.of(control, self._index.encoding)
            without_lz4 = refuses_lz4(control, self._reader.text(MemberKind.PRE))
            own = build_settings(control, workers.jobs, scratch=is_scratch)
            own |= time_zone(control, self._index)
        self._settings = {**loader_settings(server), **own}
        self._programs = self._programs_of(self._target)
        self._builder = self._programs_of(self._login) if is_scratch else self._programs
        #: Programs by the number of parallel workers that their index builds have.
        self._wide = {
            count: self._programs_of(self._login, {WORKERS: str(count)})
            for count in range(1, min(workers.jobs, MOST_WORKERS + 1) if WORKERS in own else 1)
        }
        with ExitStack() as stack:
            path = stack.enter_context(private_folder()) / "schema.dump"
            path.write_bytes(self._index.archive)
            self._held = stack.pop_all()
        name = self._target.name
        self._archive = Archive(path, workers.binaries, name, server, without_lz4, tablespaces=not is_scratch)
        self._leaves = Leaves(self._archive, partial(self._connect, self._login), self._codec)
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()
        self._held.close()

    def _programs_of(self, target: Target, other: Mapping[str, str] | None = None) -> Programs:
        settings = {**self._settings, **(other or {})}
        return Programs(target.environment(settings, encoding=self._index.encoding))

    def _connect(self, login: Target | None = None) -> Session:
        """Open a loading session of `login`; None: of the target's own."""
        return (login or self._target).connect(self._settings, encoding=self._index.encoding)

    def load(self) -> tuple[LeftOut, ...]:
        """Load everything; return objects that no server accepts."""
        if self._index.database.get("without_public"):
            with self._connect() as session:
                session.execute(DROP_PUBLIC)
        with self._schema() as schema:
            self._workers.progress("schema", 0, None)
            schema.create()
            if self._late:
                with self._connect() as session:
                    self._late.drop(session, self._codec)
            entries = self._archive.entries(self._programs, "post-data")
            items = [i for i in entries if not (i.is_refresh and i.oid in self._unread)]
            last = self._leaves.plain_indexes(self._programs, items) if self._indexes_last else {}
            shares = schema_archive.share([i for i in items if i not in last], self._index.tables)
            whole: AbstractContextManager[None] = nullcontext()
            if self._logins:
                self._owners = self._owners_of_tables(self._logins.names())
                whole = in_one_piece(self._connect, self._index, self._codec)
            with whole:
                run_all(self._tasks(shares), self._workers.jobs, self._stop)
            self._leaves.build(last.values())
            self._workers.progress("data", self._total, self._total)  # with the lines around the rows
            self._workers.progress("the rest of the schema", 0, None)
            if self._late:
                with self._connect(self._login) as session:
                    self._leaves.left_out += self._late.add(session, self._codec)
            schema.finish(shares.rest, self._workers.jobs, self._leaves)
        return tuple(self._leaves.left_out)

    def _schema(self) -> AbstractContextManager[GuardedSchema | OwnSchema]:
        if self._logins:
            alone = self._wide.get(len(self._wide), self._builder)
            return GuardedSchema(self._archive, self._logins, self._programs, alone)
        roles = self._index.roles
        own = OwnSchema(self._archive, self._programs, self._target, self._settings, roles)
        own.late = self._extensions or own.late
        return nullcontext(own)

    def _owners_of_tables(self, names: Mapping[int, str]) -> dict[tuple[str, str], str]:
        """Owners of the copy's tables, extensions' tables included. `names`: role names by oid."""
        with self._target.connect(encoding=self._index.encoding) as session:
            rows = self._codec.rows(session, _OWNERS)
        return {(schema, name): names[owner] for schema, name, owner in rows}

    def _tasks(self, shares: schema_archive.Shares) -> Iterator[Task]:
        """Yield parallel tasks; the weight of a table's tasks is that of all its work."""
        by_table: dict[int, tuple[Task, ...]] = {}
        weights = {table.oid: _weight(table) for table in self._index.tables}
        if self._index.members_of(MemberKind.DATA):
            # First: it is one session, and nothing else should wait for it at the end.
            yield Task(sum(weights.values()) + 1, self._load_data)
        for number, table in enumerate(self._index.tables):
            if table.blocks and not (self._extensions and self._extensions.has(table)):
                blocks = self._blocks(number, table)
                built = self._builds(table, blocks, shares)
                yield from blocks
                yield from built
                by_table[table.oid] = (*blocks, *built)
        for own, other, item in shares.foreign:
            yield Task(
                weights[own],
                partial(self._restore_items, "adding foreign keys", [item]),
                after=tuple({*by_table[own], *by_table[other]}),
                alone=frozenset({own, other}),
            )

    def _blocks(self, number: int, table: Table) -> tuple[Task, ...]:
        return tuple(
            Task(_weight(table), partial(self._load_block, table, member))
            for member in self._index.blocks_of(number)
        )

    def _builds(
        self, table: Table, blocks: tuple[Task, ...], shares: schema_archive.Shares
    ) -> tuple[Task, ...]:
        """Tasks for keys, which need their table exclusively, and for indexes, which exclude only keys."""
        run = partial(partial, self._restore_items, f"building an index of {table.qualified}")
        one, weight = frozenset({table.oid}), _weight(table)
        keys, indexes = shares.keys.get(table.oid, ()), shares.indexes.get(table.oid, ())
        return (
            *(Task(weight + 1, run([i]), blocks, alone=one, wide=run([i])) for i in keys),
            *(Task(weight, run([i]), blocks, beside=one, wide=run([i])) for i in indexes),
        )

    def _load_block(self, table: Table, member: Member) -> None:
        """Load one member's rows with one COPY in this thread's session."""
        statement, pieces = copy_body(self._reader, member, self._codec, table)
        if self._rows is None:
            self._copy(statement, self._counted(pieces))
            return
        with self._digested(member) as digest:
            self._copy(statement, self._counted(digest.through(complete_lines(pieces))))

    @contextmanager
    def _digested(self, member: Member) -> Iterator[Digest]:
        """Digest for the rows of `member`; RefnetError (DAMAGED) afterwards if they differ from what was written."""
        digest = Digest()
        try:
            yield digest
        except ValueError as error:
            raise cut_short(self._reader, member) from error
        if self._rows:
            self._rows.add(member, digest)

    def _load_data(self) -> None:
        """Run pg_dump's own data section by psql, which runs no psql command from it."""
        if not self._index.large_objects:
            self._run_data(self._data_text())
            return
        text = DataText(self._data_text())
        while not text.ended:
            self._run_data(text.for_psql())
            if not text.ended:
                self._write_large_objects(text)

    def _run_data(self, text: Iterator[bytes]) -> None:
        whole = chain([statements(self._settings)], text)
        self._programs.run(self._archive.psql(), "loading the data", restricted(whole))

    def _write_large_objects(self, text: DataText) -> None:
        try:
            with self._connect() as session:
                with self._lock:
                    self._sessions.append(session)
                text.write_contents(session)
        except psycopg.Error as error:
            if self._stopped.is_set():
                raise Stopped from error
            raise server_errors.of_server(error, "loading the large objects") from error

    def _data_text(self) -> Iterator[bytes]:
        """Yield the data section; for a scratch server without rows, which their owners' sessions load meanwhile."""
        for member in self._index.members_of(MemberKind.DATA):
            pieces = self._counted(self._reader.raw(member))
            if self._logins:
                yield from self._without_rows(member, pieces)
            elif self._extensions and self._extensions.schemas:
                yield from self._extensions.text(pieces, self._codec)
            else:
                yield from pieces

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._stopped.is_set():
                raise Stopped
            yield piece
            with self._lock:
                self._done += len(piece)
                self._workers.progress("data", self._done, self._total)

    def _without_rows(self, member: Member, pieces: Iterator[bytes]) -> Iterator[bytes]:
        lines = Lines(complete_lines(pieces))
        with self._digested(member) as digest:
            for statement in lines.statements():
                if copy := COPY.fullmatch(statement):
                    self._copy(copy, digest.through(lines.rows()))
                else:
                    yield statement

    def _copy(self, statement: re.Match[bytes], rows: Iterator[bytes]) -> None:
        """Run one COPY in a session of its table's owner."""
        table = (self._codec.unquoted(statement["schema"]), self._codec.unquoted(statement["name"]))
        try:
            with self._session(table).cursor() as cursor, cursor.copy(statement[0].rstrip(b";\n")) as copy:
                for piece in rows:
                    copy.write(piece)
        except psycopg.Error as error:
            if self._stopped.is_set():
                raise Stopped from error
            raise server_errors.of_server(error, f"loading {'.'.join(table)}") from error

    def _restore_items(self, doing: str, items: Sequence[schema_archive.Item], idle: int = 0) -> None:
        programs = self._wide.get(min(idle, len(self._wide)), self._builder)
        self._leaves.restore(Step(programs, doing), items)

    def _session(self, table: tuple[str, str]) -> Session:
        """This thread's session, opened on first use; in a scratch server as the table's owner."""
        owner = self._owners.get(table, self._logins.builder) if self._logins else ""
        if getattr(self._own, "owner", None) != owner:
            if hasattr(self._own, "owner"):
                self._own.session.close()
            name = self._target.name
            target = self._logins.as_owner(name, owner) if self._logins else self._target
            session = self._connect(target)
            with self._lock:
                self._sessions.append(session)
            self._own.session, self._own.owner = session, owner
        return self._own.session  # type: ignore[no-any-return]

    def _stop(self) -> None:
        self._stopped.set()
        for programs in {self._programs, self._builder, *self._wide.values()}:
            programs.stop()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            with suppress(psycopg.Error):
                session.cancel()


def _weight(table: Table) -> int:
    return table.raw + _ROW * table.rows
