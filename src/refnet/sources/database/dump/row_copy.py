"""Copies tables out of one snapshot: short rows by psql, long rows by a session of this process.

Python gets the rows of a session one by one, and psql's in large pieces. Rows of kilobytes need no pieces, so that psql
and its pipe are only in the way: measured with rows of 200 kB, a session takes a third of the client's CPU time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Self

import psycopg

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import Session, cancel
from refnet.sources.database.artifact.member_rows import gathered
from refnet.sources.database.dump.psql_copy import PsqlCopy, PsqlError
from refnet.sources.database.workers import Stopped

#: Rows of this many bytes are long.
LONG = 1 << 12


class RowCopy:
    """Runs `COPY … TO STDOUT` statements in the exported `snapshot`, or each in a snapshot of its own session."""

    def __init__(
        self,
        binaries: Binaries,
        target: Target,
        settings: Mapping[str, str],
        *,
        encoding: str,
        snapshot: str | None = None,
    ) -> None:
        self._binaries, self._target, self._settings = binaries, target, settings
        self._encoding, self._snapshot = encoding, snapshot
        self._psql: PsqlCopy | None = None
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._killed = False

    def copy(self, copy: bytes, *, lock: bytes = b"", long: bool = False) -> Iterator[bytes]:
        """Run `lock`, then `copy`; yield its output in pieces. PsqlError if a statement fails.

        long: its rows have LONG bytes or more.
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
            self._psql = self._psql or PsqlCopy(
                self._binaries, self._target, self._settings, encoding=self._encoding, snapshot=self._snapshot
            )
            return self._psql

    def _by_session(self) -> Session:
        with self._lock:
            if self._killed:
                raise Stopped
            if not self._session:
                self._session = self._target.connect(self._settings, encoding=self._encoding)
                self._session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if self._snapshot:
                    self._session.execute(f"SET TRANSACTION SNAPSHOT '{self._snapshot}'".encode())
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
