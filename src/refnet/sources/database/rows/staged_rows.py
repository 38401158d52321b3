"""Stages the rows of one table of an artifact in a temporary table; reads only that table's bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg

from refnet.catalog.artifact import Progress
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import TableGlob
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Table
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.member_rows import Digest, complete_lines, copy_body, gathered
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.plan.table_plan import TableSelection
from refnet.sources.database.rows.table_layout import TableLayout, refused
from refnet.sources.database.sql_text import IDENT, Codec

#: Schema and name of a table.
_Name = tuple[str, str]

_TABLE = rb"(%b)\.(%b)" % (IDENT, IDENT)
_SET_ZONE = "SELECT set_config('timezone', %s, false)"
_ATTACH = re.compile(rb"^ALTER TABLE ONLY %b ATTACH PARTITION %b " % (_TABLE, _TABLE), re.MULTILINE)


@dataclass(frozen=True)
class Recorded:
    """A table of an artifact."""

    schema: str
    name: str
    #: Numbers in Index.tables; several where the table is partitioned.
    parts: tuple[int, ...]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


def find(reader: Reader, codec: Codec, wanted: str) -> Recorded:
    """The table `wanted` (`table` or `schema.table`); RefnetError (USAGE) unless there is exactly one."""
    tables = {(table.schema, table.name): number for number, table in enumerate(reader.index.tables)}
    found = [Recorded(*name, (number,)) for name, number in tables.items() if _is_named(name, wanted)]
    names = {*tables}
    if not found:
        children = _children(reader, codec)
        names |= children.keys()
        tops = [name for name in children if _is_named(name, wanted)]
        found = [Recorded(*top, tuple(_leaves(top, children, tables))) for top in tops]
    if len(found) > 1:
        found = [one for one in found if one.schema == "public"] or found
    if len(found) != 1:
        what = "contains no table" if not found else "contains, in several schemas, a table"
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


def find_all(reader: Reader, codec: Codec, selection: TableSelection) -> list[Recorded]:
    """The selected tables, each once, without partitions of other tables selected by a pattern or schema.

    RefnetError (USAGE) if a name, pattern or schema selects nothing, or a name is ambiguous.
    """
    found: dict[_Name, Recorded] = {}
    for wanted in selection.names:
        glob = TableGlob(wanted)
        some = [] if glob.is_plain else _matching(reader, codec, glob.matches)
        for one in some or [find(reader, codec, wanted)]:
            found[one.schema, one.name] = one
    for schema in selection.schemas:
        of_schema = _matching(reader, codec, lambda one, _: one == schema)  # noqa: B023  # called at once
        if not of_schema:
            raise RefnetError(
                f"{reader.name} contains no table in the schema '{schema}'",
                "`refnet show` lists its tables.",
                Exit.USAGE,
            )
        found |= {(one.schema, one.name): one for one in of_schema}
    return list(found.values())


def _matching(reader: Reader, codec: Codec, matches: Callable[[str, str], bool]) -> list[Recorded]:
    tables = {(table.schema, table.name): number for number, table in enumerate(reader.index.tables)}
    children = _children(reader, codec)
    tops = [name for name in {**tables, **children} if matches(*name)]
    covered, todo = set[_Name](), [child for top in tops for child in children.get(top, ())]
    while todo:
        name = todo.pop()
        if name not in covered:
            covered.add(name)
            todo += children.get(name, ())
    return [Recorded(*top, tuple(_leaves(top, children, tables))) for top in tops if top not in covered]


def _is_named(name: _Name, wanted: str) -> bool:
    return wanted in {name[1], ".".join(name)}


def _children(reader: Reader, codec: Codec) -> dict[_Name, list[_Name]]:
    """Partitioned table → attached tables."""
    children: dict[_Name, list[_Name]] = {}
    for found in _ATTACH.finditer(reader.text(MemberKind.PRE)):
        schema, name, child_schema, child = (codec.unquoted(one) for one in found.groups())
        children.setdefault((schema, name), []).append((child_schema, child))
    return children


def _leaves(top: _Name, children: Mapping[_Name, list[_Name]], tables: Mapping[_Name, int]) -> Iterator[int]:
    """Yield the recorded tables at and below `top`, each once: a forged schema may attach a table to itself."""
    seen, todo = {top}, [top]
    while todo:
        table = todo.pop()
        if table in tables:
            yield tables[table]
        below = [child for child in children.get(table, ()) if child not in seen]
        seen.update(below)
        todo += reversed(below)


def stage(
    session: Session, reader: Reader, recorded: Recorded, layout: TableLayout, progress: Progress
) -> None:
    """Load the rows into `layout.stage`, a table with the live columns' types.

    RefnetError if these types reject or change the rows.
    """
    index = reader.index
    codec = Codec.of(session, index.encoding)
    tables = [index.tables[number] for number in recorded.parts]
    names = codec.listed(layout.columns)
    try:
        session.execute(
            b"CREATE TABLE %b AS SELECT %b FROM %b WITH NO DATA" % (layout.stage, names, layout.only)
        )
        expected = copy_rows(session, reader, recorded, layout.stage, progress)
        if layout.key:
            key = b", ".join(column for column, _ in layout.key)
            session.execute(b"CREATE INDEX ON %b (%b)" % (layout.stage, key))
        session.execute(b"ANALYZE " + layout.stage)
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"reading the rows of {recorded.qualified}") from error
    if all(table.digest for table in tables):
        expected.total = sum(int(table.digest, 16) for table in tables)
    if not _same(session, codec, layout, tables, expected):
        raise refused(
            recorded.qualified, "has types that differ from the artifact's and would change its values"
        )


def copy_rows(
    session: Session, reader: Reader, recorded: Recorded, into: bytes, progress: Progress
) -> Digest:
    """Copy the rows into the table `into`; return their digest. RefnetError (DAMAGED) if a row has no end."""
    index, codec, digest = reader.index, Codec.of(session, reader.index.encoding), Digest()
    total, done = sum(index.tables[number].raw for number in recorded.parts), 0
    parts = ((index.tables[n], one) for n in recorded.parts for one in index.members if one.table == n)
    try:
        for table, member in parts:
            statement = b"COPY %b (%b) FROM STDIN" % (into, codec.listed(table.columns))
            with session.cursor() as cursor, cursor.copy(statement) as copy:
                for piece, ends in complete_lines(copy_body(reader, member, codec, table)[1]):
                    copy.write(piece)
                    digest.feed(piece, ends=ends)
                    done += len(piece)
                    progress("reading rows", done, total)
    except ValueError as error:
        raise damaged(reader.name, f"{recorded.qualified}: {error}") from error
    return digest


def digest_of(session: Session, codec: Codec, columns: tuple[str, ...], table: bytes) -> Digest:
    """Return the digest of the rows of a live or temporary table, as text with times in UTC as in an artifact."""
    digest = Digest()
    ((zone,),) = codec.rows(session, "SELECT current_setting('timezone')")
    codec.rows(session, _SET_ZONE, ("UTC",))
    statement = b"COPY (SELECT %b FROM %b) TO STDOUT" % (codec.listed(columns), table)
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for data, ends in complete_lines(gathered(copy)):
            digest.feed(data, ends=ends)
    codec.rows(session, _SET_ZONE, (zone,))
    return digest


def _same(session: Session, codec: Codec, layout: TableLayout, tables: list[Table], expected: Digest) -> bool:
    """Check that the live types did not change the staged rows."""
    digest = digest_of(session, codec, tables[0].columns, layout.stage)
    # The digest of a leaf with another order of columns is of that order: then only the count is compared.
    same_order = len({table.columns for table in tables}) == 1
    return digest.rows == sum(table.rows for table in tables) and (
        not same_order or digest.hex == expected.hex
    )
