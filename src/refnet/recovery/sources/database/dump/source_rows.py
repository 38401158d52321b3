"""Counts the rows of each table on the server, in the snapshot of a dump and on a road that no copied row takes.

A dump compares these numbers with the rows that it wrote: neither the end of a COPY nor anything that was received says
how many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from refnet.errors import Exit
from refnet.recovery.model.source import TransientError
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.dump.copy_members import TableKey
from refnet.recovery.sources.database.dump.snapshot import PARENTS, OpenSnapshot, Relation

#: Small tables that are counted by one statement.
_AT_ONCE = 100
_SMALL = 1 << 20
#: An index may lack rows: they are counted where COPY reads them.
_SETTINGS = {
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "default_transaction_read_only": "on",
}
#: The tables of extensions of which a dump contains only the rows that meet a condition.
_CONDITIONS = """
SELECT config::int8, condition FROM pg_extension, unnest(extconfig, extcondition) AS c(config, condition)
WHERE condition <> ''
"""
_NAMED = 3


class SourceDiffersError(TransientError):
    """The artifact has not the rows of the database. It is not published, and made once more."""


class SourceRows:
    """The numbers of rows on the server, by a session of its own; tables that another session waits for come last."""

    def __init__(self, snapshot: OpenSnapshot, relations: Sequence[Relation]) -> None:
        """`relations`: what the artifact contains."""
        self._snapshot = snapshot
        unlogged = "p" if snapshot.rows("SELECT pg_is_in_recovery()")[0][0] else "pu"
        self._tables = [r for r in relations if r.kind == "r" and r.persistence in unlogged]
        self._conditions: dict[int, str] = dict(snapshot.rows(_CONDITIONS))
        self._counts: dict[int, int] = {}
        #: Tables that another session waits to change.
        self._blocked: list[Relation] = []
        self._session: psycopg.Connection[tuple[Any, ...]] | None = None
        self._stopped = False

    def kill(self) -> None:
        """End the counting from another thread."""
        self._stopped = True
        if self._session:
            self._session.cancel_safe()

    def count(self) -> None:
        """Count in a session of its own; ServerError where the server refuses."""
        with self._open() as session:
            for group in _groups(self._tables):
                if self._stopped:
                    return
                try:
                    with session.transaction():
                        names = (b"ONLY " + self._name(relation) for relation in group)
                        session.execute(b"LOCK TABLE %b IN ACCESS SHARE MODE NOWAIT" % b", ".join(names))
                        self._count(session, group)
                except psycopg.errors.LockNotAvailable:
                    self._blocked += group

    @contextmanager
    def _open(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        snapshot = self._snapshot
        settings = {**snapshot.reader_settings, **_SETTINGS}
        try:
            with snapshot.target.connect(settings, encoding=snapshot.encoding) as session:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(f"SET TRANSACTION SNAPSHOT '{snapshot.id}'".encode())
                self._session = session
                yield session
        except psycopg.Error as error:
            raise server_errors.of_server(error, "counting the rows on the server") from error
        finally:
            self._session = None

    def _count(self, session: psycopg.Connection[tuple[Any, ...]], group: Sequence[Relation]) -> None:
        counts = (b"(SELECT count(*) FROM %b)" % self._rows(relation) for relation in group)
        row = session.execute(b"SELECT " + b", ".join(counts)).fetchone() or ()
        self._counts |= zip((relation.oid for relation in group), map(int, row), strict=True)

    def _name(self, relation: Relation) -> bytes:
        return self._snapshot.codec.quoted(relation.schema, relation.name)

    def _rows(self, relation: Relation) -> bytes:
        """Return what pg_dump and the workers read of `relation`, for FROM."""
        condition = self._conditions.get(relation.oid, "")
        if condition:
            return self._name(relation) + b" " + self._snapshot.codec.encode(condition)
        return b"ONLY " + self._name(relation)

    def compare(self, written: Mapping[TableKey, int]) -> None:
        """Raise SourceDiffersError unless the artifact's rows, by table, are those on the server.

        Call it in the thread of the snapshot's session, which has the locks: it counts what was blocked.
        """
        for group in _groups(self._blocked):
            self._count(self._snapshot.control, group)
        counted = dict.fromkeys(written, 0)
        parents: dict[int, int] = dict(self._snapshot.rows(PARENTS))
        keys = {r.oid: (r.schema, r.name) for r in self._snapshot.relations}
        for oid, rows in self._counts.items():
            above: int | None = oid
            while (
                above is not None and keys.get(above) not in written
            ):  # the leaves of a table that is written as one
                above = parents.get(above)
            key = keys[oid if above is None else above]
            counted[key] = counted.get(key, 0) + rows
        wrong = [(key, n, written.get(key, 0)) for key, n in counted.items() if n != written.get(key, 0)]
        if wrong:
            raise _differs(wrong)


def _groups(relations: Sequence[Relation]) -> Iterator[list[Relation]]:
    """Cut `relations` into what one statement counts, the large ones first."""
    yield from ([relation] for relation in relations if relation.size >= _SMALL)
    small = [relation for relation in relations if relation.size < _SMALL]
    yield from (small[at : at + _AT_ONCE] for at in range(0, len(small), _AT_ONCE))


def _differs(wrong: Sequence[tuple[TableKey, int, int]]) -> SourceDiffersError:
    said: Iterable[str] = (
        f"{'.'.join(key)} has {there:,} rows on the server and {here:,} in the backup"
        for key, there, here in wrong[:_NAMED]
    )
    more = f", and {len(wrong) - _NAMED} more tables differ" if len(wrong) > _NAMED else ""
    return SourceDiffersError(
        f"the backup is not what the database contains: {'; '.join(said)}{more}",
        "Nothing was published. Check the network and its proxies, this machine's memory, and the server's log; then retry.",
        Exit.DAMAGED,
    )
