"""The rows of tables in an artifact's members: cut into gzip members, digested, and read back.

A table's rows are COPY statements of about 8 MB. Their digest is the number of rows, and the sum modulo 2^128 of a
64-bit hash of each line: independent of the order, and cheap enough to compute while the bytes stream. It detects lost,
changed, swapped and duplicated rows; it does not protect against an attacker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from xxhash import xxh3_64, xxh3_64_intdigest, xxh3_128

from refnet.core.errors import RefnetError
from refnet.sources.database.artifact.deflating import Deflater
from refnet.sources.database.artifact.index import Member, Table
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.sql_text import COPY, LONGEST_COPY, Codec

_MODULUS = 1 << 128
#: A line longer than this (bytes) is hashed and passed on in parts: no row bounds the memory, or is copied to join it.
LONG_LINE = 1 << 16
#: Where the first line has more bytes, looking for each end is faster than `split` and `count`, which compare each byte.
_RATHER_LONG = 1 << 11
_PIECE = 1 << 18
#: A member ends at the first line end after so many bytes of text.
BLOCK = 8 << 20
TableKey = tuple[str, str]
_END_OF_ROWS = b"\\.\n"


@dataclass(frozen=True)
class Packed:
    """A finished gzip member."""

    kind: MemberKind
    data: bytes
    #: Inflated length in bytes.
    raw: int
    #: XXH3 of the text, 32 hex digits.
    text: str
    #: Schema and name of the table whose rows it contains.
    table: TableKey | None
    rows: int
    #: Bytes of the rows.
    row_bytes: int


class Cutter:
    """Compresses text and emits each member when it is full."""

    def __init__(self, kind: MemberKind, emit: Callable[[Packed], None]) -> None:
        self._kind = kind
        self._emit = emit
        self._begin()

    def _begin(self) -> None:
        self._deflater = Deflater()
        self._hash = xxh3_128()
        self._rows = self._row_bytes = 0
        self._table: TableKey | None = None

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._deflater.add(data)

    def text(self, data: bytes) -> None:
        """Add SQL between the rows."""
        self._put(data)

    def rows(self, table: TableKey, head: bytes, pieces: Iterable[bytes], *, even_none: bool = True) -> None:
        """Add one table's rows, in pieces of any length; each member begins with the COPY statement `head`.

        `even_none`: write the statement even for a table without rows. ValueError if the last row has no newline.
        """
        ends = True
        for piece in pieces:
            while piece:
                if self._table is None:
                    self._put(head)
                    self._table, even_none = table, False
                at = piece.find(b"\n", max(0, BLOCK - self._deflater.raw - 1)) + 1
                data, piece = (piece[:at], piece[at:]) if at else (piece, b"")  # noqa: PLW2901
                self._put(data)
                self._rows += sum(1 for _ in _long_lines(data)) if _is_long(data) else data.count(b"\n")
                self._row_bytes += len(data)
                ends = data.endswith(b"\n")
                if at:
                    self._put(_END_OF_ROWS)
                    self.flush()
        if not ends:
            raise ValueError("the last row has no end")
        if self._table or even_none:
            self._put(_END_OF_ROWS if self._table else head + _END_OF_ROWS)
            self._table = table
            self.flush()

    def flush(self) -> None:
        """Emit the member, unless it is empty."""
        if raw := self._deflater.raw:
            packed, text = self._deflater.finish(), self._hash.hexdigest()
            self._emit(Packed(self._kind, packed, raw, text, self._table, self._rows, self._row_bytes))
        self._begin()


#: Where a quoted text or name begins or ends, or a comment begins.
_QUOTE = re.compile(rb"['\"]|--")
_COMMENT = b"--"
_SETVAL = re.compile(
    rb"SELECT pg_catalog\.setval\('(?P<name>(?:[^']|'')+)', (?P<value>-?\d{1,19}), (?P<called>true|false)\);\n"
)
_LOWRITE = b"SELECT pg_catalog.lowrite("
_LO_OPEN = b"SELECT pg_catalog.lo_open("
#: After so many bytes of large objects, a member ends before the next one whose number is among one in four.
_OBJECTS, _ONE_IN = 1 << 20, 4
#: Limit of a statement, in bytes.
_LONGEST_STATEMENT = 64 << 20


class DataSection:
    """Cuts pg_dump's data section into members at table boundaries, aware of its quoting."""

    def __init__(
        self,
        emit: Callable[[Packed], None],
        codec: Codec,
        restrict: bytes,
        left_out: Collection[bytes] = (),
    ) -> None:
        r"""Leave out the `\restrict` pair of the key `restrict`, and the statements `left_out`."""
        self._cutter = Cutter(MemberKind.DATA, emit)
        self._codec = codec
        self._left_out = {b"\\restrict " + restrict + b"\n", b"\\unrestrict " + restrict + b"\n", *left_out}
        self.columns: dict[TableKey, tuple[str, ...]] = {}
        self.sequences: list[tuple[str, int, bool]] = []
        #: A large object has begun.
        self._objects = False

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
                self._cutter.rows(key, statement, (rows for rows, _ in lines.rows()))
                text_since_member = 0
                continue
            if statement.startswith(_LO_OPEN) and self._cuts_before(statement, text_since_member):
                self._cutter.flush()
                text_since_member = 0
            self._note(statement)
            self._cutter.text(statement)
            text_since_member += len(statement)
            if text_since_member >= BLOCK:
                self._cutter.flush()
                text_since_member = 0
        self._cutter.flush()

    def _cuts_before(self, opens: bytes, size: int) -> bool:
        """Whether a large object begins a member: those before it have `size` bytes.

        The object decides it, so that one that was deleted or has another length does not move every later cut.
        """
        first, self._objects = not self._objects, True
        return first or (size >= _OBJECTS and xxh3_64_intdigest(opens) % _ONE_IN == 0)

    def _note(self, statement: bytes) -> None:
        found = _SETVAL.fullmatch(statement)
        if found:
            name = self._codec.decode(found["name"].replace(b"''", b"'"))
            self.sequences.append((name, int(found["value"]), found["called"] == b"true"))


def _quote_after(part: bytes, quote: bytes) -> bytes:
    """Quote open after `part`, given the `quote` open before it; b"": none."""
    for found in _QUOTE.finditer(part):
        if not quote:
            quote = found[0]
        elif found[0] == quote != _COMMENT:
            quote = b""
    return b"" if quote == _COMMENT and part.endswith(b"\n") else quote


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
        """Yield lines, joined if a quoted name or text contains a newline; ValueError if that is too long."""
        parts: list[bytes] = []
        size, quote = 0, b""
        while self._at < len(self._data) or self._more():
            end = self._data.find(b"\n", self._at) + 1 or len(self._data)
            part = self._data[self._at : end]
            self._at = end
            parts.append(part)
            size += len(part)
            if size > _LONGEST_STATEMENT:
                raise ValueError("a statement is too long")
            if not parts[0].startswith(_LOWRITE):
                quote = _quote_after(part, quote)
            if part.endswith(b"\n") and not quote:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

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


_COPY_LINE = re.compile(rb"^" + COPY.pattern, re.MULTILINE)
#: Bytes of pg_dump's data section before the rows: it is cut after 8 MB of other statements.
_LONGEST_BEFORE = 32 << 20


def copy_body(
    reader: Reader, member: Member, codec: Codec, table: Table
) -> tuple[re.Match[bytes], Iterator[bytes]]:
    """Return the COPY statement of `table` in `member`, and its rows in pieces, without the line that ends them.

    A block begins with that statement. RefnetError (DAMAGED) if the member does not contain it or ends within the rows.
    """
    pieces, text = reader.raw(member), b""
    longest = LONGEST_COPY if member.kind is MemberKind.BLOCK else _LONGEST_BEFORE
    while not (statement := _statement(member, codec, table, text)):
        piece = next(pieces, b"")
        if not piece or len(text) > longest:
            raise damaged(
                reader.name, f"the member at byte {member.offset} contains no COPY of {table.qualified}"
            )
        text += piece
    return statement, _rows(reader, member, text[statement.end() :], pieces)


def cut_short(reader: Reader, member: Member) -> RefnetError:
    """Error: the last row of a member has no end."""
    return damaged(reader.name, f"the member at byte {member.offset} ends within a row")


def _statement(member: Member, codec: Codec, table: Table, text: bytes) -> re.Match[bytes] | None:
    found = [COPY.match(text)] if member.kind is MemberKind.BLOCK else _COPY_LINE.finditer(text)
    return next((one for one in found if one and codec.names(one, table.schema, table.name)), None)


def _rows(reader: Reader, member: Member, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    pending = first
    for piece in pieces:
        if len(piece) < len(_END_OF_ROWS):
            pending += piece
        else:
            yield pending
            pending = piece
    if not pending.endswith(_END_OF_ROWS):
        raise cut_short(reader, member)
    yield pending[: -len(_END_OF_ROWS)]


def _is_long(data: bytes) -> bool:
    return data.find(b"\n", 0, _RATHER_LONG) < 0


def _long_lines(data: bytes) -> Iterator[memoryview]:
    """Yield the lines that end in `data`, without their newlines."""
    view, begin = memoryview(data), 0
    while (end := data.find(b"\n", begin)) >= 0:
        yield view[begin:end]
        begin = end + 1


class Digest:
    """The count, the digest and the bytes of rows, fed as complete lines or as parts of one long line."""

    __slots__ = ("_long", "raw", "rows", "total")

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0
        self.raw = 0
        self._long: xxh3_64 | None = None

    def feed(self, data: bytes, *, ends: bool) -> None:
        """Add what `complete_lines` yields."""
        self.raw += len(data)
        if ends and self._long is None:
            lines: list[bytes] | list[memoryview]
            if _is_long(data):
                lines = list(_long_lines(data))
            else:
                lines = data.split(b"\n")
                lines.pop()
            self.rows += len(lines)
            self.total += sum(map(xxh3_64_intdigest, lines))
            return
        self._long = self._long or xxh3_64()
        self._long.update(memoryview(data)[:-1] if ends else data)
        if ends:
            self.rows += 1
            self.total += self._long.intdigest()
            self._long = None

    def through(self, lines: Iterable[tuple[bytes, bool]]) -> Iterator[bytes]:
        """Yield the rows of `lines` (complete_lines), and add each."""
        for data, ends in lines:
            self.feed(data, ends=ends)
            yield data

    def add(self, other: Digest) -> None:
        """Add another digest's rows."""
        self.rows += other.rows
        self.total += other.total
        self.raw += other.raw

    @property
    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.total % _MODULUS:032x}"


def gathered(copy: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Yield the rows of psycopg's COPY in large pieces: overhead is per piece. A longer row is cut, and not copied whole."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    for row in copy:
        parts.append(row[:_PIECE])
        size += len(parts[-1])
        if size >= _PIECE:
            yield b"".join(parts)
            parts, size = [], 0
        yield from (bytes(row[at : at + _PIECE]) for at in range(_PIECE, len(row), _PIECE))
    yield b"".join(parts)


def complete_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    r"""Cut `chunks` at line ends: yield (complete lines, True) or (part of a long line, False).

    The part that ends a long line comes alone, as (part with its newline, True). ValueError where the last line has
    no newline; COPY text always has one.
    """
    carry, within_long = b"", False
    for chunk in chunks:
        data = carry + chunk if carry else chunk
        carry = b""
        if within_long:
            at = data.find(b"\n") + 1
            if not at:
                yield data, False
                continue
            yield data[:at], True
            data, within_long = data[at:], False
        at = data.rfind(b"\n") + 1
        if at:
            yield (data if at == len(data) else data[:at]), True
        carry = data[at:]
        if len(carry) >= LONG_LINE:
            yield carry, False
            carry, within_long = b"", True
    if carry:
        raise ValueError("the last line has no end")
