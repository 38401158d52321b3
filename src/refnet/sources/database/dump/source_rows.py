"""The rows of each table, counted on the server and in the artifact while it is written.

The server counts in the dump's snapshot, but independently of the copied rows. A dump compares these numbers with the
rows that it wrote: COPY itself does not tell how many rows there are.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Empty, SimpleQueue

import psycopg

from refnet.catalog.artifact import TransientError, Turn, at_once
from refnet.core.errors import Exit
from refnet.core.formatting import plural
from refnet.postgres.connect_error import ConnectError
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session, cancel
from refnet.sources.database.artifact.index import Table
from refnet.sources.database.artifact.member_rows import Packed, TableKey
from refnet.sources.database.dump import metadata
from refnet.sources.database.dump.snapshot import PARENTS, DumpedRelation, OpenSnapshot
from refnet.sources.database.proof import row_digests
from refnet.sources.database.proof.row_digests import SCANS, Method, as_text, expression, written
from refnet.sources.database.rows.live_catalog import page_ranges

#: Small tables that are counted by one statement.
_AT_ONCE = 50
_SMALL = 1 << 20
#: The tables of extensions of which a dump contains only the rows that meet a condition.
_CONDITIONS = """
SELECT config::int8, condition FROM pg_extension, unnest(extconfig, extcondition) AS c(config, condition)
WHERE condition <> ''
"""
_GENERATED = """
SELECT attrelid::int8, attname::text FROM pg_attribute
WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped AND attgenerated = 's' ORDER BY attrelid, attnum
"""
#: The search path that the database gives its sessions, after the server's own names; and none again.
_OWN_PATH = """
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', nullif(reset_val, '')), true)
FROM pg_settings WHERE name = 'search_path'
"""
_NO_PATH = "SELECT set_config('search_path', '', true)"
#: A refresh locks a materialized view exclusively.
_SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"
#: A row is too long as one text (which of the two depends on where it becomes too long), or a type has no hash.
_NOT_DIGESTED = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.InternalError_,
    psycopg.errors.UndefinedFunction,
)
_NAMED = 3
#: About how much of a table one statement digests (bytes on disk, TOAST included).
RANGE = 32 << 20


class SourceDiffersError(TransientError):
    """The artifact's rows differ from the database: it is not published, and the backup is retried."""


@dataclass(frozen=True)
class DumpOptions:
    """Options of a dump."""

    #: Called when the snapshot is open.
    turn: Turn = at_once
    #: The server digests the rows of at most so many bytes of tables, on its disk; else it only counts them.
    digest_up_to: int = 0
    #: The digests must compare with those of another major version.
    portable: bool = False
    #: The rows are those of this moment; None: of now, by the server's clock.
    as_of: datetime | None = None

    def method(self, relations: Sequence[DumpedRelation]) -> Method | None:
        """Digest method for the rows of `relations`; None: not digested."""
        if not self.digest_up_to or sum(relation.size for relation in relations) > self.digest_up_to:
            return None
        return Method.MD5 if self.portable else Method.RECORD


DEFAULT = DumpOptions()


@dataclass(frozen=True)
class Digested:
    """What the server digested of a table, see `source_digest`."""

    rows: str = ""
    #: Of the stored generated columns, which no artifact contains.
    generated: str = ""


@dataclass(frozen=True)
class _Part:
    """What one statement counts: some tables, or a range of pages of one."""

    relations: Sequence[DumpedRelation]
    #: A condition with WHERE, or b"".
    where: bytes = b""


class SourceRows:
    """Row counts and digests from the server, in separate sessions.

    Tables that another session waits to change come last.
    """

    def __init__(self, snapshot: OpenSnapshot, only: Sequence[DumpedRelation], options: DumpOptions) -> None:
        """`only`: the tables that the artifact contains; none: everything."""
        self._snapshot, self._entire = snapshot, not only
        relations = only or snapshot.relations
        method = options.method(relations)
        unlogged = "p" if snapshot.rows("SELECT pg_is_in_recovery()")[0][0] else "pu"
        self._tables = [r for r in relations if r.kind == "r" and r.persistence in unlogged]
        self._conditions: dict[int, str] = dict(snapshot.rows(_CONDITIONS))
        self._digests = self._aggregates(method) if method else {}
        self._text = Method.MD5 if method is Method.MD5 else Method.TEXT
        self._with_generated = {oid for oid, _ in snapshot.rows(_GENERATED, [r.oid for r in self._tables])}
        #: The materialized views, as the index has them, and why others could not be read.
        self.views: list[tuple[str, str, int, str]] = []
        self._unread: list[str] = []
        #: As the index has them.
        self.large_objects: list[tuple[int, int, str]] = []
        #: By table: rows, and the sums of its digests.
        self._counts: Counter[int] = Counter()
        self._sums: Counter[int] = Counter()
        self._generated: Counter[int] = Counter()
        self._todo: SimpleQueue[_Part] = SimpleQueue()
        for part in self._parts():
            self._todo.put(part)
        #: Of tables that another session waits to change.
        self._blocked: list[_Part] = []
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def _aggregates(self, method: Method) -> dict[int, tuple[Method, Method, bytes, bytes]]:
        """Return for each table how its rows and its stored generated columns are digested, and the aggregates."""
        snapshot, own = self._snapshot, tuple(r for r in self._tables if r.oid not in self._conditions)
        oids = [relation.oid for relation in own]
        texts = as_text(snapshot.rows, oids)
        generated: dict[int, list[str]] = {}
        for oid, name in snapshot.rows(_GENERATED, oids):
            generated.setdefault(oid, []).append(name)
        listed = snapshot.codec.listed
        found: dict[int, tuple[Method, Method, bytes, bytes]] = {}
        for oid, columns in snapshot.columns(own).items():
            hashed = Method.TEXT if method is Method.RECORD and oid in texts else method
            text = Method.TEXT if method is Method.RECORD else method
            of_generated = expression(text, listed(generated[oid])) if oid in generated else b"NULL"
            found[oid] = (hashed, text, expression(hashed, listed(columns)), of_generated)
        return found

    def kill(self) -> None:
        """End the counting from another thread."""
        with self._lock:
            self._stopped = True
            for session in self._sessions:
                cancel(session)

    def count(self) -> None:
        """Count in a separate session, and digest the large objects; ServerError on failure."""
        with self._open() as session:
            self._count_parts(session)
            for schema, name, columns in row_digests.views(self._snapshot.rows) if self._entire else ():
                if not self._stopped:
                    self._read_view(session, schema, name, columns)
            for one in metadata.large_objects(session) if self._entire else ():
                if self._stopped:
                    return
                self.large_objects.append(one)

    def help(self) -> None:
        """Count beside the thread that counts, in another session, if the server allows one."""
        if not self._todo.empty():
            with suppress(ConnectError), self._open() as session:
                self._count_parts(session)

    def _parts(self) -> Iterator[_Part]:
        """Yield what one statement counts, large tables first; those that are digested are cut by pages."""
        alone = self._snapshot.unplanned
        small = [r for r in self._tables if r.size < _SMALL and r.oid not in alone]
        yield from (_Part([relation]) for relation in self._tables if relation.oid in alone)
        for relation in self._tables:
            if relation.oid in alone:
                continue
            count = min(relation.pages, relation.size // RANGE) if relation.oid in self._digests else 0
            if count > 1:
                yield from (_Part([relation], b" WHERE " + one) for one in page_ranges(relation.pages, count))
            elif relation.size >= _SMALL:
                yield _Part([relation])
        yield from (_Part(small[at : at + _AT_ONCE]) for at in range(0, len(small), _AT_ONCE))

    def _count_parts(self, session: Session) -> None:
        with suppress(Empty):
            while not self._stopped:
                part = self._todo.get_nowait()
                try:
                    with session.transaction():
                        names = (b"ONLY " + self._name(relation) for relation in part.relations)
                        session.execute(b"LOCK TABLE %b IN ACCESS SHARE MODE NOWAIT" % b", ".join(names))
                        self._count(session, part)
                except psycopg.errors.LockNotAvailable:
                    self._blocked.append(part)

    def _read_view(self, session: Session, schema: str, name: str, columns: list[str]) -> None:
        """Count the rows of a materialized view, which is not locked and which a dump need not be able to read."""
        codec = self._snapshot.codec
        digest = expression(self._text, codec.listed(columns)) if self._digests and columns else b"NULL"
        try:
            with session.transaction():
                session.execute(_SHORT_WAIT)
                query = b"SELECT count(*), %b FROM %b" % (digest, codec.quoted(schema, name))
                rows, total = session.execute(query).fetchone() or (0, None)
        except psycopg.Error as error:
            if self._stopped or session.closed:
                raise
            self._unread.append(f"{schema}.{name} ({error.diag.message_primary})")
            return
        self.views.append((schema, name, rows, "" if total is None else written(self._text, total)))

    @contextmanager
    def _open(self) -> Iterator[Session]:
        snapshot = self._snapshot
        settings = {**snapshot.reader_settings, **SCANS, "default_transaction_read_only": "on"}
        try:
            with snapshot.target.connect(settings, encoding=snapshot.encoding) as session:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(f"SET TRANSACTION SNAPSHOT '{snapshot.id}'".encode())
                with self._lock:
                    self._sessions.add(session)
                try:
                    yield session
                finally:
                    with self._lock:
                        self._sessions.discard(session)
        except psycopg.Error as error:
            raise server_errors.of_server(error, "counting the rows on the server") from error

    def _count(self, session: Session, part: _Part) -> None:
        """Count, and digest if possible: a row may be too long as one text."""
        try:
            with session.transaction():
                self._ask(session, part)
        except _NOT_DIGESTED:
            for relation in part.relations:
                self._digests.pop(relation.oid, None)
            self._ask(session, part)

    def _ask(self, session: Session, part: _Part) -> None:
        statement = b" UNION ALL ".join(self._select(relation, part.where) for relation in part.relations)
        own_path = part.relations[0].oid in self._snapshot.unplanned
        if own_path:
            session.execute(_OWN_PATH)
        answer = session.execute(statement).fetchall()
        if own_path:
            session.execute(_NO_PATH)
        with self._lock:
            for oid, rows, digest, generated in answer:
                self._counts[oid] += rows
                self._sums[oid] += int(digest or 0)
                self._generated[oid] += int(generated or 0)

    def _select(self, relation: DumpedRelation, where: bytes) -> bytes:
        *_, rows, generated = self._digests.get(relation.oid, (b"NULL", b"NULL"))
        parts = (relation.oid, rows, generated, self._rows(relation), where)
        return b"SELECT %d::int8, count(*), (%b)::numeric, (%b)::numeric FROM %b%b" % parts

    def _name(self, relation: DumpedRelation) -> bytes:
        return self._snapshot.codec.quoted(relation.schema, relation.name)

    def _rows(self, relation: DumpedRelation) -> bytes:
        """Expression for FROM that selects what pg_dump and the workers read of `relation`."""
        condition = self._conditions.get(relation.oid, "")
        if condition:
            return self._name(relation) + b" " + self._snapshot.codec.encode(condition)
        return b"ONLY " + self._name(relation)

    def compare(self, copied: Mapping[TableKey, int]) -> None:
        """Raise SourceDiffersError unless the artifact's rows, by table, are those on the server.

        Call it in the thread of the snapshot's session, which has the locks: blocked tables are counted now.
        """
        for part in self._blocked:
            self._count(self._snapshot.control, part)
        counted = dict.fromkeys(copied, 0)
        parents: dict[int, int] = dict(self._snapshot.rows(PARENTS))
        keys = {r.oid: (r.schema, r.name) for r in self._snapshot.relations}
        for oid, rows in self._counts.items():
            above: int | None = oid
            # The leaves of a table that is written as one.
            while above is not None and keys.get(above) not in copied:
                above = parents.get(above)
            key = keys[oid if above is None else above]
            counted[key] = counted.get(key, 0) + rows
        wrong = [(key, n, copied.get(key, 0)) for key, n in counted.items() if n != copied.get(key, 0)]
        if wrong:
            raise _differs(wrong)

    def digested(self, oid: int) -> Digested:
        """Return the digests of a table that was copied on its own."""
        if oid not in self._digests:
            return Digested()
        rows, text, *_ = self._digests[oid]
        generated = written(text, self._generated[oid]) if oid in self._with_generated else ""
        return Digested(written(rows, self._sums[oid]), generated)

    def unchecked(self) -> Iterator[str]:
        """Sentences about what could not be digested, if digests were requested."""
        left = [r for r in self._tables if r.oid not in self._digests] if self._digests else []
        if left:
            first = f"{left[0].schema}.{left[0].name}"
            yield f"the rows of {plural(len(left), 'table')} were counted, not digested; the first is {first}"
        if generated := self._with_generated - self._digests.keys():
            of = plural(len(generated), "table")
            yield f"the stored generated columns of {of} are not compared, as nothing was digested"
        yield from (f"a materialized view is not compared: {one}" for one in self._unread)


def _differs(wrong: Sequence[tuple[TableKey, int, int]]) -> SourceDiffersError:
    said: Iterable[str] = (
        f"{'.'.join(key)} has {there:,} rows on the server and {here:,} in the backup"
        for key, there, here in wrong[:_NAMED]
    )
    more = f", and {len(wrong) - _NAMED} more tables differ" if len(wrong) > _NAMED else ""
    return SourceDiffersError(
        f"the backup differs from the database: {'; '.join(said)}{more}",
        "Nothing was published. Check the network and its proxies, this machine's memory, and the server's log; then retry.",
        Exit.DAMAGED,
    )


class CopiedTables:
    """The tables of an artifact in the order in which their members come, and their sizes."""

    def __init__(self, snapshot: OpenSnapshot, large: tuple[DumpedRelation, ...]) -> None:
        self.columns = snapshot.columns(large)
        self._keys, self._foreign_keys = snapshot.keys(large)
        self._of_blocks = {(r.schema, r.name): r for r in large}
        self._by_name = {(r.schema, r.name): r for r in snapshot.relations}
        #: Rows, and bytes of them.
        self._sizes: dict[TableKey, tuple[int, int]] = dict.fromkeys(self._of_blocks, (0, 0))
        self._numbers = {key: number for number, key in enumerate(self._sizes)}

    def size_if_new(self, packed: Packed) -> int:
        """Size of a small table if `packed` is its first member, else 0."""
        key = packed.table
        small = self._by_name.get(key) if key and key not in self._sizes else None
        return small.size if small else 0

    def count(self, packed: Packed) -> int | None:
        """Add a member's rows to its table; return the table's number, or None if the member has no rows."""
        if packed.table is None:
            return None
        rows, size = self._sizes.get(packed.table, (0, 0))
        self._sizes[packed.table] = (rows + packed.rows, size + packed.row_bytes)
        return self._numbers.setdefault(packed.table, len(self._numbers))

    @property
    def rows(self) -> dict[TableKey, int]:
        """The rows of each table in the artifact."""
        return {key: rows for key, (rows, _) in self._sizes.items()}

    def finished(
        self, columns: dict[TableKey, tuple[str, ...]], digested: Callable[[int], Digested]
    ) -> tuple[Table, ...]:
        """Return every table. `columns`: of the tables that pg_dump copied. `digested`: by oid, on the server."""
        tables = (self._finished(key, *sizes, columns) for key, sizes in self._sizes.items())
        return tuple(
            replace(one, source=found.rows, generated=found.generated) if found != Digested() else one
            for one, found in ((each, digested(each.oid)) for each in tables)
        )

    def _finished(
        self, key: TableKey, rows: int, size: int, columns: dict[TableKey, tuple[str, ...]]
    ) -> Table:
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
            rows=rows,
            raw=size,
            oid=oid,
            keys=self._keys.get(oid, ()),
            foreign_keys=self._foreign_keys.get(oid, {}),
        )
