"""Extensions that can only be created in a database of a certain name: after the copy has that name.

pg_cron is one. The copy is loaded without them, and without their tables' rows; both follow after the swap, and are
compared (`after_swap.py`). What else needs such an extension cannot be restored, and ends the load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.index_values import schema_and_name
from refnet.sources.database.artifact.member_rows import Lines, complete_lines
from refnet.sources.database.artifact.schema_toc import Item
from refnet.sources.database.server_errors import Cause, ServerError
from refnet.sources.database.sql_text import COPY, IDENT, Codec

_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('(?P<schema>%b)\." % IDENT)
_SCHEMAS = "SELECT nspname::text FROM pg_catalog.pg_namespace"


@dataclass
class LateExtensions:
    """Extensions that a copy lacks, and their entries."""

    names: set[str] = field(default_factory=set)
    #: Their schemas, which they create themselves.
    schemas: set[str] = field(default_factory=set)
    #: Their entries, and those of privileges on what is in their schemas.
    items: list[Item] = field(default_factory=list)
    #: Of all tables.
    _schemas: set[str] = field(default_factory=set)

    def refused(self, error: ServerError, index: Index) -> bool:
        """Whether `error` is about an extension that is not yet late; it then becomes late."""
        names = (one["name"] for one in index.extensions)
        if error.cause is not Cause.OTHER:  # it is not installed, or a right is missing
            return False
        new = {name for name in names if error.entry.startswith(f"EXTENSION {name} ")} - self.names
        self.names |= new
        self._schemas = {table.schema for table in index.tables}
        return bool(new)

    def without(self, items: Iterable[Item]) -> list[Item]:
        """`items` of pre-data without those of late extensions, which are kept for later."""
        begin = tuple(f"{kind} - {lead}{name} " for name in self.names for kind, lead in _OF_EXTENSION)
        others: list[Item] = []
        self.items = []
        for item in items:
            (self.items if item.what.startswith(begin) else others).append(item)
        return others

    def without_schemas(self, items: Iterable[Item], session: Session) -> list[Item]:
        """Return `items` without privileges in schemas that the extensions would have created."""
        there = {name for (name,) in session.execute(_SCHEMAS).fetchall()}
        self.schemas = self._schemas - there
        kept = []
        for item in items:
            schema = _schema_of_grant(item)
            if schema and schema not in there:
                self.schemas.add(schema)
                self.items.append(item)
            else:
                kept.append(item)
        return kept

    def has(self, table: Table) -> bool:
        return table.schema in self.schemas

    def part(self, index: Index, *, late: bool) -> Index:
        """The part of `index` loaded late, or the part loaded at once."""
        if not self.schemas:
            return index
        tables = tuple(one for one in index.tables if self.has(one) is late)
        sequences = tuple(
            one for one in index.sequences if (schema_and_name(one[0])[0] in self.schemas) is late
        )
        objects = () if late else index.large_objects
        return replace(index, tables=tables, sequences=sequences, large_objects=objects, partial=late)

    def text(self, pieces: Iterator[bytes], codec: Codec) -> Iterator[bytes]:
        """Yield a data section without the rows and sequences of the extensions."""
        lines = Lines(complete_lines(pieces))
        for statement in lines.statements():
            found = COPY.fullmatch(statement) or _SETVAL.match(statement)
            late = found is not None and codec.unquoted(found["schema"]) in self.schemas
            if not late:
                yield statement
            if found and found.re is COPY:
                for rows, _ in lines.rows():
                    if not late:
                        yield rows
                if not late:
                    yield b"\\.\n"


_OF_EXTENSION = (("EXTENSION", ""), ("COMMENT", "EXTENSION "), ("SECURITY LABEL", "EXTENSION "))


def _schema_of_grant(item: Item) -> str:
    """Schema that a privilege concerns, or contains its object; "" for other entries."""
    kind, _, rest = item.what.partition(" ")
    words = rest.split(" ")
    if kind != "ACL" or len(words) < 3:
        return ""
    return words[2] if words[:2] == ["-", "SCHEMA"] else words[0].removeprefix("-")
