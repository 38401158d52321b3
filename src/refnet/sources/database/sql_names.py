"""SQL names as text and as bytes, also in encodings that Python cannot decode strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

IDENT = rb'"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*'
#: `COPY schema.table (columns) FROM stdin;` as pg_dump writes it; a quoted name can contain newlines.
COPY = re.compile(
    rb"COPY (?P<schema>" + IDENT + rb")\.(?P<name>" + IDENT + rb") "
    rb"(?:\((?P<columns>(?:" + IDENT + rb")(?:, (?:" + IDENT + rb"))*)?\))? ?FROM stdin;\n"
)
#: Limit of such a statement in bytes: more than 1600 columns take.
LONGEST_COPY = 1 << 20
_ONE = re.compile(IDENT)


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
        """Return the rows of a catalog query, every text decoded, also within arrays."""
        found = session.execute(query, values).fetchall()
        return [tuple(self._decoded(value) for value in row) for row in found]

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
