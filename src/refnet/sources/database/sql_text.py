"""SQL as text: names, also in encodings that Python cannot decode strictly, and the statements of pg_dump's output.

The text may be forged. This is not the only safeguard: statements are sent by a protocol that accepts only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.adapt import Dumper

IDENT = rb'"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*'
#: `COPY schema.table (columns) FROM stdin;` as pg_dump writes it; a quoted name can contain newlines.
COPY = re.compile(
    rb"COPY (?P<schema>" + IDENT + rb")\.(?P<name>" + IDENT + rb") "
    rb"(?:\((?P<columns>(?:" + IDENT + rb")(?:, (?:" + IDENT + rb"))*)?\))? ?FROM stdin;\n"
)
#: Limit of such a statement in bytes: more than 1600 columns take.
LONGEST_COPY = 1 << 20
_ONE = re.compile(IDENT)


class _Sent(bytes):
    """A text in the bytes of a database."""


class _SentDumper(Dumper):
    """Sends a text as it is, of a type that the server infers, as psycopg sends every str."""

    def dump(self, obj: _Sent) -> bytes:
        return obj


psycopg.adapters.register_dumper(_Sent, _SentDumper)


@dataclass(frozen=True)
class Codec:
    """Converts between a database's bytes and text; undecodable bytes become surrogates."""

    name: str = "utf-8"

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], encoding: str) -> Codec:
        """Return the codec of a session whose client_encoding is `encoding`."""
        return cls("utf-8" if encoding == "SQL_ASCII" else connection.info.encoding)

    @classmethod
    def of_server(cls, session: psycopg.Connection[Any]) -> tuple[Codec, str]:
        """Set the session's client_encoding to the server's encoding; return its codec and the encoding's name."""
        ((value,),) = session.execute("SELECT current_setting('server_encoding')").fetchall()
        encoding = value.decode() if isinstance(value, bytes) else str(value)
        session.execute("SELECT set_config('client_encoding', %s, false)", (encoding,))
        return cls.of(session, encoding), encoding

    def rows(
        self, session: psycopg.Connection[tuple[Any, ...]], query: str | bytes, values: Any = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a catalog query, every text decoded, also within arrays.

        Texts in `values` are sent in the bytes of the database, which need not be valid in its encoding.
        """
        if isinstance(values, Mapping):
            values = {name: self._sent(value) for name, value in values.items()}
        elif values:
            values = [self._sent(value) for value in values]
        found = session.execute(query, values).fetchall()
        return [tuple(self._decoded(value) for value in row) for row in found]

    def _sent(self, value: Any) -> Any:
        return _Sent(self.encode(value)) if isinstance(value, str) else value

    def _decoded(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return self.decode(value)
        return [self._decoded(one) for one in value] if isinstance(value, list) else value

    def decode(self, value: bytes | str) -> str:
        return value if isinstance(value, str) else value.decode(self.name, "surrogateescape")

    def encode(self, value: str) -> bytes:
        return value.encode(self.name, "surrogateescape")

    def quoted(self, *parts: str) -> bytes:
        """Return the quoted, qualified name of `parts`, as bytes for SQL."""
        return self.encode(".".join('"' + part.replace('"', '""') + '"' for part in parts))

    def unquoted(self, ident: bytes) -> str:
        """Return the name of an identifier in SQL text."""
        plain = ident[1:-1].replace(b'""', b'"') if ident.startswith(b'"') else ident
        return self.decode(plain)

    def names(self, copy: re.Match[bytes], schema: str, name: str) -> bool:
        """Return True if the statement `copy` fills the table of that name."""
        return (self.unquoted(copy["schema"]), self.unquoted(copy["name"])) == (schema, name)

    def listed(self, names: Iterable[str]) -> bytes:
        """Return a column list of `names`, each quoted."""
        return b", ".join(self.quoted(name) for name in names)

    def columns(self, listed: bytes | None) -> tuple[str, ...]:
        """Return the names in a column list."""
        return tuple(self.unquoted(one) for one in _ONE.findall(listed or b""))


def literal(text: bytes) -> bytes:
    """`text` as a string of SQL."""
    return b"'" + text.replace(b"'", b"''") + b"'"


#: Comments, quoted names, strings, the beginning of a dollar-quoted string, brackets, the end of a statement.
_PART = re.compile(
    rb"--[^\n]*|/\*"
    rb'|"(?:[^"]|"")*+"'
    rb"|(?<![\w$\x80-\xff])[eE]'(?:[^'\\]|\\.|'')*+'|'(?:[^']|'')*+'"
    rb"|(?<![\w$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$"
    rb"|[()\[\];]",
    re.DOTALL,
)


def statements(text: bytes) -> Iterator[bytes]:
    """Yield each statement of `text`, without its semicolon and the comments before it."""
    begin = depth = last = 0
    blank = True  # so far, apart from comments
    for start, end in _parts(text):
        one, blank = text[start:end], blank and not text[last:start].strip()
        last = end
        if blank and one.startswith(b"--"):
            begin = end
            continue
        blank = False
        if one in b"([":
            depth += 1
        elif one in b")]":
            depth = max(0, depth - 1)
        elif one == b";" and not depth:
            yield text[begin:start].strip()
            begin, blank = end, True


def bare(statement: bytes) -> bytes:
    """`statement` with strings as '' and quoted names as x; ValueError if it contains a comment."""
    found, begin = [], 0
    for start, end in _parts(statement):
        one = statement[start:end]
        if one.startswith((b"--", b"/*")):
            raise ValueError("a comment within a statement")
        if len(one) > 1:
            found += [statement[begin:start], b"x" if one.startswith(b'"') else b"''"]
            begin = end
    return b"".join([*found, statement[begin:]])


def flat(statement: bytes) -> bytes:
    """`bare` without the content of the outermost brackets."""
    text, found, depth, begin = bare(statement), [], 0, 0
    for start, end in _parts(text):
        one = text[start:end]
        if one in b"([":
            if not depth:
                found.append(text[begin:end])
            depth += 1
        elif one in b")]":
            depth -= 1
            if depth == 0:
                begin = start
            elif depth < 0:
                raise ValueError("a bracket that nothing opened")
    if depth:
        raise ValueError("a bracket that nothing closes")
    return b"".join([*found, text[begin:]])


def outline(text: bytes) -> bytes:
    """`text` at the same length, with x for quoted text and _ for text in brackets."""
    found, depth, begin = bytearray(text), 0, 0
    for start, end in _parts(text):
        one = text[start:end]
        if one in b"([":
            depth, begin = depth + 1, start if not depth else begin
        elif one in b")]":
            depth = max(0, depth - 1)
            if not depth:
                found[begin:end] = b"_" * (end - begin)
        elif not depth and len(one) > 1:
            found[start:end] = b"x" * (end - start)
    return bytes(found)


def inherited(create: bytes) -> bytes:
    """Return the list of tables that a CREATE TABLE inherits from, or b""."""
    found = re.search(rb"_\s+INHERITS (_+)", outline(create))
    return create[found.start(1) + 1 : found.end(1) - 1] if found else b""


def items(create: bytes) -> list[bytes]:
    """Return the items in the first brackets of a CREATE TABLE."""
    hidden = outline(create)
    begin = hidden.find(b"_")
    end = begin + len(hidden[begin:]) - len(hidden[begin:].lstrip(b"_"))
    inside = create[begin + 1 : end - 1]
    commas = [-1, *(m.start() for m in re.finditer(b",", outline(inside))), len(inside)]
    return [inside[one + 1 : other] for one, other in pairwise(commas)] if begin >= 0 else []


def _parts(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the beginning and end of each part that `_PART` finds, a dollar-quoted string as one."""
    at = 0
    while found := _PART.search(text, at):
        at = found.end()
        if found[0].startswith(b"$"):
            end = text.find(found[0], at)
            at = end + len(found[0]) if end >= 0 else len(text)
        yield found.start(), at
