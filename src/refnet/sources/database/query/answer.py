"""The rows of a query, one after another, within limits of time, rows and bytes."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, cast

import psycopg
from psycopg import errors, sql
from psycopg.types.composite import RecordLoader

from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, seconds, size
from refnet.postgres.session import Target
from refnet.sources.contents import AnswerLimits
from refnet.sources.database.admin_session import Session

#: The largest row that is read, in bytes of text: a query, or what a hostile backup made of it, could give gigabytes.
LARGEST_ROW = 16 << 20
#: What the server gets beyond the time limit to end a query by itself; code in a query can refuse that.
_GRACE = 5.0
#: Of a session that asks; the search path is the database's own.
SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "row_security": "off",
    "client_min_messages": "error",
}
_MILLISECONDS = 1000
#: Characters of a message of the server.
_LONGEST = 1000
_HINTS = {
    "42601": "Give one query that begins with SELECT, VALUES, TABLE or WITH, without a semicolon inside.",
    "42P01": "`refnet show ARTIFACT --tables` lists the tables; write SCHEMA.TABLE for one outside of the search path.",
    "55000": "It reads a view or table that a scratch server cannot fill.",
}


#: The rows of an answer, to be closed before its session.
Rows = Generator[tuple[str | None, ...], None, None]
_Stream = Generator[tuple[Any, ...], None, None]


class Asker:
    """A read-only session with a time limit."""

    def __init__(self, target: Target, search_path: str | None, limits: AnswerLimits) -> None:
        self._limits = limits
        settings = {**SETTINGS, "statement_timeout": f"{limits.seconds * _MILLISECONDS:.0f}"}
        if search_path is not None:
            settings["search_path"] = search_path
        self.session: Session = target.connect(settings, encoding="UTF8")
        # The text of a row comes as varchar, and is taken apart into its values.
        self.session.adapters.register_loader("varchar", RecordLoader)
        self._expired = False
        #: The rows that were read.
        self.count = 0
        #: Why the answer is not complete.
        self.cut: RefnetError | None = None

    def columns(self, query: bytes) -> tuple[str, ...]:
        """Return the names of the columns of `query`."""
        with self.in_time():
            found = self.session.execute(
                b"SELECT * FROM (\n" + query + b"\n) AS query LIMIT 0", binary=True
            ).description
        return tuple(column.name for column in found or ())

    def rows(self, query: bytes, *, as_json: bool = False) -> Rows:
        """Yield the rows of `query`, in its order, as text; `as_json`: each as one value, a JSON object.

        RefnetError if the query fails, or a row is larger than LARGEST_ROW.
        """
        row = sql.Identifier(f"refnet_{secrets.token_hex(8)}")  # stands for the row: no column has this name
        text = sql.SQL("pg_catalog.row_to_json({})::text" if as_json else "{}::text").format(row)
        head = sql.SQL(
            "SELECT CASE WHEN pg_catalog.octet_length(t) OPERATOR(pg_catalog.<=) {} THEN t END::{} FROM (SELECT {} AS t FROM (\n"
        ).format(LARGEST_ROW, sql.SQL("text" if as_json else "varchar"), text)
        tail = sql.SQL("\n) AS {} OFFSET 0) AS found LIMIT {}").format(row, self._limits.rows + 1)
        asked = head.as_bytes(self.session) + query + tail.as_bytes(self.session)
        with (
            self.in_time(),
            self.session.cursor() as cursor,
            closing(cast("_Stream", cursor.stream(asked))) as stream,
        ):
            yield from self._within_limits(stream)

    def _within_limits(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str | None, ...]]:
        left = self._limits.bytes
        for (row,) in rows:
            if row is None:
                raise RefnetError(
                    f"row {self.count + 1:,} is larger than {size(LARGEST_ROW)}",
                    "Select fewer columns, or a part of its values: left(column, 1000).",
                )
            values: tuple[str | None, ...] = (row,) if isinstance(row, str) else row
            left -= sum(map(len, filter(None, values)))
            if self.count == self._limits.rows:  # the last that was asked for
                self.cut = _cut(f"there are more than {plural(self.count, 'row')}", "--rows")
                continue
            if left < 0:
                self.cut = _cut(f"there is more than {size(self._limits.bytes)}", "--megabytes")
                return
            self.count += 1
            yield values

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """End the block after the time limit; RefnetError for an error of the server or the limit."""
        timer = threading.Timer(self._limits.seconds + _GRACE, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            raise self._failed(error) from error
        finally:
            timer.cancel()

    def _end(self) -> None:
        """Break the connection: code in a query can ignore a cancel request. The scratch server ends with this run."""
        self._expired = True
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.session.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)

    def _failed(self, error: psycopg.Error) -> RefnetError:
        if self._expired or isinstance(error, errors.QueryCanceled):
            return RefnetError(
                f"the query did not end within {seconds(self._limits.seconds)}",
                "Narrow it, or give it more time with --seconds. A copy of a part has no indexes.",
            )
        said = error.diag.message_primary or str(error).strip().split("\n")[0]
        own = error.diag.message_hint or _HINTS.get(error.sqlstate or "", "Correct the query.")
        return RefnetError(f"the query failed: {said[:_LONGEST]}", own[:_LONGEST])

    def close(self) -> None:
        self.session.close()


def _cut(why: str, option: str) -> RefnetError:
    return RefnetError(f"the answer is cut short: {why}", f"Raise {option} to get more.")
