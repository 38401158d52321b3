"""Writes the contents of large objects by a session of its own, and leaves the rest of pg_dump's data section to psql.

pg_dump writes a statement of hexadecimal digits for every 16 KB. psql and the server then look at each digit several times.
Bytes in pieces of a megabyte, as the value of a parameter, take 40 % of the CPU time.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator

from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.member_rows import Lines, complete_lines
from refnet.sources.database.sql_text import COPY

_BEGIN, _COMMIT, _EMPTY, _COMMENT = b"BEGIN;\n", b"COMMIT;\n", b"\n", b"--"
_OPEN = re.compile(rb"SELECT pg_catalog\.lo_open\('(\d{1,10})', 131072\);\n")
_WRITE, _END = b"SELECT pg_catalog.lowrite(0, '\\x", b"');\n"
_CLOSE = b"SELECT pg_catalog.lo_close(0);\n"
#: Statements of 16 KB whose contents are written together.
_TOGETHER = 64


class DataText:
    """A cursor over pg_dump's data section, for psql and for the contents of large objects in turn."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._lines = Lines(complete_lines(pieces))
        self._statements = iter(self._lines.statements())
        #: Statements that were read but not used.
        self._held: list[bytes] = []
        #: There is nothing left.
        self.ended = False

    def _next(self) -> bytes:
        if self._held:
            return self._held.pop(0)
        statement = next(self._statements, b"")
        self.ended = not statement
        return statement

    def for_psql(self) -> Iterator[bytes]:
        """Yield the text up to the contents of large objects, or to its end."""
        begun: list[bytes] = []
        while statement := self._next():
            if begun and _OPEN.fullmatch(statement):
                self._held = [*begun, statement]
                return
            if statement == _BEGIN or (begun and statement == _EMPTY):
                begun.append(statement)
                continue
            yield from begun
            begun = []
            yield statement
            if statement.startswith(b"COPY ") and COPY.fullmatch(statement):
                yield from (rows for rows, _ in self._lines.rows())
                yield b"\\.\n"
        yield from begun

    def write_contents(self, session: Session) -> None:
        """Write the large objects that follow, up to a statement of another kind."""
        parts: list[bytes] = []
        while statement := self._next():
            content = _content(statement)
            if content is not None:
                parts.append(content)
            if parts and (content is None or len(parts) >= _TOGETHER):
                session.execute("SELECT pg_catalog.lowrite(0, %b)", [b"".join(parts)])
                parts = []
            if content is None and not _is_around(statement):
                self._held.append(statement)
                return
            if content is None and statement != _EMPTY and not statement.startswith(_COMMENT):
                session.execute(statement)


def _content(statement: bytes) -> bytes | None:
    """Return what a statement appends to the open large object; None: it is another statement."""
    if not (statement.startswith(_WRITE) and statement.endswith(_END)):
        return None
    try:
        return unhexlify(memoryview(statement)[len(_WRITE) : -len(_END)])
    except ValueError:
        return None


def _is_around(statement: bytes) -> bool:
    """Return whether pg_dump writes `statement` around the contents."""
    return (
        statement in {_BEGIN, _COMMIT, _EMPTY, _CLOSE}
        or statement.startswith(_COMMENT)
        or _OPEN.fullmatch(statement) is not None
    )
