"""Rows of many small values, which a scratch server keeps in one piece.

PostgreSQL moves values of a row that is longer than 2 kB to another table (TOAST), even short ones. Reading one back costs
more than all the rest of it. A page has room for 8 kB, and nobody needs the short rows that a live database is better off
with. The option is away again before the schema is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.sql_text import Codec

#: The most that PostgreSQL accepts, with pages of 8 kB.
_LONGEST = 8160
#: Bytes of a row's text, and of a value in the mean: longer values are compressed, which saves disk.
_ROW, _VALUE = 1000, 64
_TABLES = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT coalesce(pg_catalog.array_to_string(c.reloptions, ',') LIKE '%toast_tuple_target=%', false)
  AND pg_catalog.current_setting('block_size') = '8192'
"""


@contextmanager
def in_one_piece(connect: Callable[[], Session], index: Index, codec: Codec) -> Iterator[None]:
    """Let the tables of `index` with wide rows keep them in one piece while the block loads them.

    connect: opens a superuser's session in the database, in its encoding.
    """
    wide = {(table.schema, table.name) for table in index.tables if _is_wide(table)}
    names: list[bytes] = []
    if wide:
        with connect() as session:
            names = [codec.quoted(*name) for name in codec.rows(session, _TABLES) if name in wide]
            for name in names:
                session.execute(b"ALTER TABLE ONLY %b SET (toast_tuple_target = %d)" % (name, _LONGEST))
    yield
    if names:
        with connect() as session:
            for name in names:
                session.execute(b"ALTER TABLE ONLY %b RESET (toast_tuple_target)" % name)


def _is_wide(table: Table) -> bool:
    row = table.raw // max(1, table.rows)
    return table.blocks and row > _ROW and row < _VALUE * len(table.columns)
