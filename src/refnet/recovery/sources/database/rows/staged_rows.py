"""Rows of one table out of an artifact, staged in a session's temporary table; only that table's bytes are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.source import Progress
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.artifact.sqlgz import Kind, Reader, Table
from refnet.recovery.sources.database.rows.copy_body import copy_body
from refnet.recovery.sources.database.rows.digest import MODULUS, Digest, gathered, whole_lines
from refnet.recovery.sources.database.rows.table_layout import Session, Shape, refused
from refnet.recovery.sources.database.sql_names import IDENT, Codec

#: Schema and name of a table.
_Name = tuple[str, str]

_ATTACH = re.compile(
    rb"^ALTER TABLE ONLY ("
    + IDENT
    + rb")\.("
    + IDENT
    + rb") ATTACH PARTITION ("
    + IDENT
    + rb")\.("
    + IDENT
    + rb") ",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Recorded:
    """A table of an artifact: its name and its parts, each a place in Index.tables; several where it is partitioned."""

    schema: str
    name: str
    parts: tuple[int, ...]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


def find(reader: Reader, codec: Codec, wanted: str) -> Recorded:
    """The table that `wanted` names (`table` or `schema.table`); RefnetError (USAGE) where none or several do."""
    whole = {(table.schema, table.name): number for number, table in enumerate(reader.index.tables)}
    found = [Recorded(*name, (number,)) for name, number in whole.items() if _is_named(name, wanted)]
    names = {*whole}
    if not found:
        children = _children(reader, codec)
        names |= children.keys()
        tops = [name for name in children if _is_named(name, wanted)]
        found = [Recorded(*top, tuple(_leaves(top, children, whole))) for top in tops]
    if len(found) > 1:
        found = [one for one in found if one.schema == "public"] or found
    if len(found) != 1:
        what = "holds no table" if not found else "holds in more than one schema a table"
        near = get_close_matches(
            wanted, {name for schema, table in names for name in (table, f"{schema}.{table}")}, 1
        )
        meant = f"Did you mean {near[0]}? " if near and not found else ""
        raise RefnetError(
            f"{reader.name} {what} '{wanted}'",
            f"{meant}`refnet show` lists its tables; name it schema.table.",
            Exit.USAGE,
        )
    return found[0]


def _is_named(name: _Name, wanted: str) -> bool:
    return wanted in {name[1], ".".join(name)}


def _children(reader: Reader, codec: Codec) -> dict[_Name, list[_Name]]:
    """Every partitioned table → what is attached to it."""
    children: dict[_Name, list[_Name]] = {}
    for found in _ATTACH.finditer(reader.text(Kind.PRE)):
        schema, name, child_schema, child = (codec.unquoted(one) for one in found.groups())
        children.setdefault((schema, name), []).append((child_schema, child))
    return children


def _leaves(top: _Name, children: Mapping[_Name, list[_Name]], whole: Mapping[_Name, int]) -> Iterator[int]:
    """The recorded tables at and below `top`. A forged schema may attach a table to itself: each comes once."""
    seen, todo = {top}, [top]
    while todo:
        table = todo.pop()
        if table in whole:
            yield whole[table]
        below = [child for child in children.get(table, ()) if child not in seen]
        seen.update(below)
        todo += reversed(below)


def stage(
    session: Session, codec: Codec, reader: Reader, recorded: Recorded, shape: Shape, progress: Progress
) -> int:
    """Load the rows into `shape.stage`, a table with the live columns' types; how many there are.

    RefnetError where they do not fit, or are not what was recorded once they have taken these types.
    """
    index = reader.index
    tables = [index.tables[number] for number in recorded.parts]
    for table in tables:
        shape.check(table.columns)
    names = codec.listed(shape.columns)
    try:
        session.execute(
            b"CREATE TABLE %b AS SELECT %b FROM %b WITH NO DATA" % (shape.stage, names, shape.only)
        )
        total, done = sum(table.raw for table in tables), 0
        for number, table in zip(recorded.parts, tables, strict=True):
            columns = codec.listed(table.columns)
            for member in (one for one in index.members if one.table == number):
                with (
                    session.cursor() as cursor,
                    cursor.copy(b"COPY %b (%b) FROM STDIN" % (shape.stage, columns)) as copy,
                ):
                    for piece in copy_body(reader, member, codec, table)[1]:
                        copy.write(piece)
                        done += len(piece)
                        progress("reading rows", done, total)
        key = b", ".join(column for column, _ in shape.key)
        session.execute(b"CREATE INDEX ON %b (%b)" % (shape.stage, key))
        session.execute(b"ANALYZE " + shape.stage)
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"reading the rows of {recorded.qualified}") from error
    return _check(session, codec, recorded, shape, tables)


def _check(session: Session, codec: Codec, recorded: Recorded, shape: Shape, tables: list[Table]) -> int:
    """The staged rows have the recorded content: the live types lost nothing of it."""
    digest = Digest()
    columns = codec.listed(tables[0].columns)
    statement = b"COPY (SELECT %b FROM %b) TO STDOUT" % (columns, shape.stage)
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for data, ends in whole_lines(gathered(copy)):
            digest.feed(data, ends=ends)
    # A leaf whose columns stand in another order has a digest of that order: then the count alone is compared.
    same_order = len({table.columns for table in tables}) == 1
    total = sum(int(table.digest, 16) for table in tables) % MODULUS
    if digest.rows != sum(table.rows for table in tables) or (same_order and digest.hex != f"{total:032x}"):
        raise refused(recorded.qualified, "has other types than the artifact, which would change its values")
    return digest.rows
