"""Compress SQL text into gzip members: a table's rows are cut into COPY statements of about 8 MB."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from isal import isal_zlib

from refnet.recovery.sources.database.artifact.index_values import Kind
from refnet.recovery.sources.database.artifact.sqlgz import LEVEL
from refnet.recovery.sources.database.rows.digest import Digest, complete_lines
from refnet.recovery.sources.database.sql_names import COPY, Codec

#: A member ends at the first line end after so many bytes of text.
BLOCK = 8 << 20
TableKey = tuple[str, str]
_END_OF_ROWS = b"\\.\n"


@dataclass(frozen=True)
class Packed:
    """A finished gzip member."""

    kind: Kind
    data: bytes
    #: Inflated length in bytes.
    raw: int
    #: Schema and name of the table whose rows it contains.
    table: TableKey | None
    digest: Digest


class Cutter:
    """Compresses text and emits each member when it is full."""

    def __init__(self, kind: Kind, emit: Callable[[Packed], None]) -> None:
        self._kind = kind
        self._emit = emit
        self._begin()

    def _begin(self) -> None:
        self._deflater = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
        self._parts: list[bytes] = []
        self._raw = 0
        self._table: TableKey | None = None
        self._digest = Digest()

    def _put(self, data: bytes) -> None:
        self._parts.append(self._deflater.compress(data))
        self._raw += len(data)

    def text(self, data: bytes) -> None:
        """Add SQL between the rows."""
        self._put(data)

    def rows(
        self, table: TableKey, head: bytes, pieces: Iterable[tuple[bytes, bool]], *, even_none: bool = True
    ) -> None:
        """Add one table's rows, as `complete_lines` yields them; each member begins with the COPY statement `head`.

        `even_none`: write the statement for a table without rows too.
        """
        within = False
        for data, ends in pieces:
            if not within:
                self._put(head)
                self._table, within, even_none = table, True, False
            self._put(data)
            self._digest.feed(data, ends=ends)
            if ends and self._raw >= BLOCK:
                self._put(_END_OF_ROWS)
                self.flush()
                within = False
        if within or even_none:
            self._put(_END_OF_ROWS if within else head + _END_OF_ROWS)
            self._table = table
            self.flush()

    def flush(self) -> None:
        """Emit the member, unless it is empty."""
        if self._raw:
            self._parts.append(self._deflater.flush())
            self._emit(Packed(self._kind, b"".join(self._parts), self._raw, self._table, self._digest))
        self._begin()


_QUOTED = re.compile(rb"--[^\n]*|'[^']*'|\"[^\"]*\"")
_OPEN = re.compile(rb"['\"]")
_SETVAL = re.compile(
    rb"SELECT pg_catalog\.setval\('(?P<name>(?:[^']|'')+)', (?P<value>-?\d{1,19}), (?P<called>true|false)\);\n"
)
_LOWRITE = b"SELECT pg_catalog.lowrite("


class Section:
    """Cuts pg_dump's data section into members at the tables' boundaries; it knows pg_dump's quoting."""

    def __init__(
        self,
        emit: Callable[[Packed], None],
        codec: Codec,
        restrict: bytes,
        left_out: Collection[bytes] = (),
    ) -> None:
        r"""Leave out the `\restrict` pair of the key `restrict`, and the statements `left_out`."""
        self._cutter = Cutter(Kind.DATA, emit)
        self._codec = codec
        self._left_out = {b"\\restrict " + restrict + b"\n", b"\\unrestrict " + restrict + b"\n", *left_out}
        self.columns: dict[TableKey, tuple[str, ...]] = {}
        self.sequences: list[tuple[str, int, bool]] = []

    def read(self, chunks: Iterable[bytes]) -> None:
        """Read the complete stream."""
        lines = Lines(complete_lines(chunks))
        text_since_member = 0
        for statement in lines.statements():
            if statement in self._left_out:
                continue
            copy = COPY.fullmatch(statement)
            if copy:
                key = (self._codec.unquoted(copy["schema"]), self._codec.unquoted(copy["name"]))
                self.columns[key] = self._codec.columns(copy["columns"])
                self._cutter.rows(key, statement, lines.rows())
                text_since_member = 0
                continue
            self._note(statement)
            self._cutter.text(statement)
            text_since_member += len(statement)
            if text_since_member >= BLOCK:
                self._cutter.flush()
                text_since_member = 0
        self._cutter.flush()

    def _note(self, statement: bytes) -> None:
        found = _SETVAL.fullmatch(statement)
        if found:
            name = self._codec.decode(found["name"].replace(b"''", b"'"))
            self.sequences.append((name, int(found["value"]), found["called"] == b"true"))


class Lines:
    """A cursor over lines that can be read as statements or as rows."""

    def __init__(self, pieces: Iterable[tuple[bytes, bool]]) -> None:
        self._pieces = iter(pieces)
        self._data = b""
        self._ends = True
        self._at = 0

    def _more(self) -> bool:
        self._data, self._ends = next(self._pieces, (b"", True))
        self._at = 0
        return bool(self._data)

    def statements(self) -> Iterable[bytes]:
        """Yield lines, joined if a quoted name or text contains a newline."""
        pending = b""
        while self._at < len(self._data) or self._more():
            end = self._data.find(b"\n", self._at) + 1 or len(self._data)
            pending += self._data[self._at : end]
            self._at = end
            if pending.endswith(b"\n") and (
                pending.startswith(_LOWRITE) or not _OPEN.search(_QUOTED.sub(b"", pending))
            ):
                yield pending
                pending = b""
        if pending:
            yield pending

    def rows(self) -> Iterable[tuple[bytes, bool]]:
        r"""Yield the rows up to the line `\.`, and skip it."""
        begins = True  # a line begins at `_at`
        while self._at < len(self._data) or self._more():
            if begins and self._data.startswith(_END_OF_ROWS, self._at):
                self._at += len(_END_OF_ROWS)
                return
            at = self._data.find(b"\n" + _END_OF_ROWS, self._at)
            end = at + 1 if at >= 0 else len(self._data)
            yield self._data[self._at : end], self._ends
            self._at, begins = end, self._ends
        raise ValueError("pg_dump's output ends within the rows of a table")
