"""Copies tables out of one snapshot, in ranges of pages: short rows by psql, long rows by a session of this process.

What did not change in a range gives the same members of an artifact. So a range depends on nothing that changes with the
rows: not on the length of the table, nor on the number of workers.

Python gets the rows of a session one by one, and psql's in large pieces. Rows of kilobytes need no pieces, so that psql
and its pipe are only in the way: measured with rows of 200 kB, a session takes a third of the client's CPU time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Self

import psycopg

from refnet.sources.database.admin_session import Session, cancel
from refnet.sources.database.artifact.member_rows import gathered
from refnet.sources.database.dump.psql_copy import Access, PsqlCopy, PsqlError
from refnet.sources.database.dump.snapshot import DumpedRelation
from refnet.sources.database.rows.live_catalog import PARTS, between
from refnet.sources.database.workers import Stopped

#: About how much of a table one worker copies at a time (bytes on disk). A change in it changes all its members; with half
#: of it, short rows take 2 % more CPU.
RANGE = 4 << 20
#: About how many ranges a table has at most: the index has an entry for the members of each.
_MOST = 4096
#: Bytes for each page of a table with long rows: a page has less than 300.
_LONG = 1 << 20


@dataclass(frozen=True)
class Range:
    """A part of a table: the rows that meet `where`, a condition on ctid."""

    relation: DumpedRelation
    where: bytes
    #: About how many bytes of the table it is.
    size: int

    @property
    def is_long(self) -> bool:
        """Whether its rows are long."""
        return self.relation.size >= _LONG * self.relation.pages


def ranges(relation: DumpedRelation) -> list[Range]:
    """Cut `relation` into ranges of about RANGE bytes, by pages or by parts of a page with long values.

    All but the last have the same number of pages, a power of 2: it stays the same as the table grows, until a very large
    one is twice as large.
    """
    pages = max(1, relation.pages)
    each = max(RANGE * pages / max(1, relation.size), pages / _MOST, 1 / PARTS)
    places = range(0, pages * PARTS, 1 << round(log2(each * PARTS)))
    size = relation.size // len(places)
    return [Range(relation, where, size) for where in between([divmod(place, PARTS) for place in places])]


class RowCopy:
    """Runs `COPY … TO STDOUT` statements."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._psql: PsqlCopy | None = None
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._killed = False

    def copy(self, copy: bytes, *, lock: bytes = b"", long: bool = False) -> Iterator[bytes]:
        """Run `lock`, then `copy`; yield its output in pieces. PsqlError if a statement fails.

        long: its rows are of kilobytes.
        """
        if not long:
            yield from self._by_psql().copy(copy, lock=lock)
            return
        try:
            session = self._by_session()
            if lock:
                session.execute(lock)
            with session.cursor() as cursor, cursor.copy(copy) as rows:
                yield from gathered(rows)
        except psycopg.Error as error:
            raise PsqlError.of(error) from error

    def _by_psql(self) -> PsqlCopy:
        with self._lock:
            if self._killed:
                raise Stopped
            self._psql = self._psql or PsqlCopy(self._access)
            return self._psql

    def _by_session(self) -> Session:
        with self._lock:
            if self._killed:
                raise Stopped
            if not self._session:
                access = self._access
                self._session = access.target.connect(access.settings, encoding=access.encoding)
                self._session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if access.snapshot:
                    self._session.execute(f"SET TRANSACTION SNAPSHOT '{access.snapshot}'".encode())
            return self._session

    def kill(self) -> None:
        """End what runs, from another thread; `copy` then raises PsqlError or Stopped."""
        with self._lock:
            self._killed = True
            if self._psql:
                self._psql.kill()
            if self._session:
                cancel(self._session)

    def close(self) -> None:
        """End the child and the session."""
        if self._psql:
            self._psql.close()
        if self._session:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
