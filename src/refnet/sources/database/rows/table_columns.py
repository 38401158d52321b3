"""Compares the columns of a live table with those of the artifact's definition of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refnet.sources.database import sql_text
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.sql_text import IDENT, Codec

_LIVE = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)::text, a.attnotnull,
       coalesce(pg_get_expr(d.adbin, d.adrelid), '')::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""
_COLUMN = re.compile(rb"(%b) (.*)" % IDENT, re.DOTALL)
#: What follows a type, outside of brackets and quotes.
_AFTER_TYPE = re.compile(rb" (?:COLLATE|DEFAULT|NOT NULL|GENERATED|CONSTRAINT|CHECK) ?")
_PARENT = re.compile(rb"(%b)\.(%b)" % (IDENT, IDENT))
_DEFAULT = re.compile(rb" DEFAULT ")
_SET_DEFAULT = re.compile(rb"ALTER TABLE [^\n]*? ALTER COLUMN (%b) SET DEFAULT (.*)" % IDENT, re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column, as PostgreSQL writes it."""

    type: str
    required: bool
    #: "" where there is none.
    default: str


def differences(
    session: Session, codec: Codec, definitions: Sequence[Definition], table: Name
) -> tuple[str, ...]:
    """Sentences about column differences, except generated columns; empty without a definition."""
    if not (recorded := recorded_columns(definitions, table, codec)):
        return ()
    rows = codec.rows(session, _LIVE, table)
    return tuple(_differences(recorded, {name: Column(*rest) for name, *rest in rows}))


def _differences(recorded: dict[str, Column], live: dict[str, Column]) -> Iterator[str]:
    for name, column in recorded.items():
        now = live.get(name)
        if now is None:
            yield f"column {name} no longer exists"
            continue
        if now.type != column.type:
            yield f"column {name} is {now.type}, it was {column.type}: each value must fit unchanged"
        if now.required != column.required:
            what = "does not accept NULL, it did" if now.required else "accepts NULL, it did not"
            yield f"column {name} {what}"
        if now.default != column.default:
            yield f"column {name} has the default {now.default or 'NULL'}, it had {column.default or 'NULL'}"
    for name in live.keys() - recorded.keys():
        yield f"column {name} is new; rows that are added get its default"


def recorded_columns(definitions: Sequence[Definition], table: Name, codec: Codec) -> dict[str, Column]:
    """Columns of a table in the artifact's schema, including inherited, without generated ones."""
    of: dict[Name | None, list[Definition]] = {}
    for one in definitions:
        of.setdefault(one.table, []).append(one)
    found: dict[str, Column] = {}
    for one in (each for name in reversed(_lineage(of, table, codec)) for each in of.get(name, ())):
        if one.what is What.TABLE:
            for item in sql_text.items(one.text):
                if column := _column(item, codec):
                    found[column[0]] = column[1]
        elif one.what is What.OF_TABLE and (default := _SET_DEFAULT.fullmatch(one.text)):
            name = codec.unquoted(default[1])
            if name in found:
                found[name] = Column(found[name].type, found[name].required, codec.decode(default[2]))
    return found


def _lineage(of: Mapping[Name | None, Sequence[Definition]], table: Name, codec: Codec) -> list[Name]:
    """`table` and its ancestors, each once: a forged schema may contain a cycle."""
    found = {table: None}
    waiting = [table]
    while waiting:
        for one in of.get(waiting.pop(), ()):
            if one.what is What.TABLE:
                for parts in _PARENT.finditer(sql_text.inherited(one.text)):
                    parent = codec.unquoted(parts[1]), codec.unquoted(parts[2])
                    waiting += [] if parent in found else [parent]
                    found[parent] = None
    return list(found)


def _column(item: bytes, codec: Codec) -> tuple[str, Column] | None:
    """Return name and column of an item in CREATE TABLE; None for a constraint or a generated column."""
    item = item.strip()
    parts, outline = _COLUMN.fullmatch(item), sql_text.outline(item)
    if not parts or parts[1] == b"CONSTRAINT" or b" GENERATED ALWAYS AS " in outline:
        return None
    start = parts.start(2)
    end = _AFTER_TYPE.search(outline, start)
    default = ""
    if begin := _DEFAULT.search(outline, start):
        stop = re.search(rb" (?:NOT NULL|CONSTRAINT|CHECK) ?", outline[begin.end() :])
        default = codec.decode(item[begin.end() : begin.end() + stop.start() if stop else None])
    kind = codec.decode(item[start : end.start() if end else None])
    return codec.unquoted(parts[1]), Column(kind, b" NOT NULL" in outline, default)
