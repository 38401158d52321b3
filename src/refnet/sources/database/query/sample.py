"""The first rows of a table, read from the artifact itself: no server is needed, however large the table is."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from refnet.catalog.artifact import OpenArtifact
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import size
from refnet.core.member_names import some
from refnet.sources.contents import AnswerLimits, Query, QueryAnswer
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.member_rows import copy_body
from refnet.sources.database.artifact.own_artifact import open_own
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.query.answer import LARGEST_ROW
from refnet.sources.database.sql_text import Codec

#: The escapes of COPY's text; PostgreSQL writes no others.
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NULL = b"\\N"


@dataclass
class _Sampled:
    """Reads the rows of one table, within limits."""

    reader: Reader
    number: int
    limits: AnswerLimits
    count: int = 0
    cut: RefnetError | None = None
    codec: Codec = field(init=False)

    def __post_init__(self) -> None:
        self.codec = _codec(self.reader.index.encoding)

    def rows(self) -> Iterator[tuple[str | None, ...]]:
        columns, left = len(self.reader.index.tables[self.number].columns), self.limits.bytes
        for line in self._lines():
            left -= len(line)
            if self.count == self.limits.rows or left < 0:
                if left < 0:
                    self.cut = RefnetError(
                        f"there is more than {size(self.limits.bytes)}", "Raise --megabytes."
                    )
                return
            values = line.split(b"\t") if columns else []
            if len(values) != columns:
                raise RefnetError(
                    f"{self.reader.name} is damaged: row {self.count + 1:,} has {len(values)} values of {columns}",
                    "Choose another artifact (`refnet list`).",
                    Exit.DAMAGED,
                )
            self.count += 1
            yield tuple(self._text(value) for value in values)

    def _text(self, value: bytes) -> str | None:
        if value == _NULL:
            return None
        raw = _ESCAPED.sub(lambda one: _ESCAPES.get(one[1], one[1]), value) if b"\\" in value else value
        return self.codec.decode(raw)

    def _lines(self) -> Iterator[bytes]:
        index = self.reader.index
        for member in (one for one in index.members if one.table == self.number):
            rest = b""
            for piece in copy_body(self.reader, member, self.codec, index.tables[self.number])[1]:
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
                if len(rest) > LARGEST_ROW:
                    raise RefnetError(
                        f"row {self.count + 1:,} is larger than {size(LARGEST_ROW)}",
                        "Select a part of it with a query: left(column, 1000).",
                    )


def sample(chosen: OpenArtifact, asked: Query) -> QueryAnswer:
    """Return the first rows of the table `asked.sample`, as they are stored; RefnetError if there is no such table."""
    reader = open_own(
        chosen, "so its first rows cannot be read alone", "Query it with SQL.", Exit.USAGE
    ).reader
    read = _Sampled(reader, _number(reader.index, asked.sample), asked.limits)
    table = reader.index.tables[read.number]
    rows = read.rows()
    if asked.as_json:
        rows = ((json.dumps(dict(zip(table.columns, row, strict=True))),) for row in rows)
    more = table.rows - asked.limits.rows
    notes = [f"the first rows as they are stored, of {table.rows:,}"] if more > 0 else []
    return QueryAnswer(chosen, table.columns, rows, (table.qualified,), read, notes)


def _number(index: Index, name: str) -> int:
    found = [at for at, one in enumerate(index.tables) if name in {one.name, one.qualified}]
    if len(found) == 1:
        return found[0]
    tables = [index.tables[at].qualified for at in found]
    raise RefnetError(
        f"'{name}' is ambiguous: {some(tables)}" if found else f"there is no table '{name}' in it",
        "Give SCHEMA.TABLE." if found else "`refnet show ARTIFACT --tables` lists them.",
        Exit.USAGE,
    )


def _codec(encoding: str) -> Codec:
    """Return the codec of a database's encoding; UTF-8, with its undecodable bytes kept, where Python has none."""
    name = encoding.lower().replace("win", "cp")
    try:
        return Codec(codecs.lookup(name).name)
    except LookupError:
        return Codec()
