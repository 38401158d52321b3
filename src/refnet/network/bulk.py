"""Loading many rows at once: what slows a COPY is set aside and put back when the rows are in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

_INDEXES = """
SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index
WHERE indrelid = ANY (%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
ORDER BY indexrelid
"""
_FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
       format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint
WHERE conrelid = ANY (%s::regclass[]) AND contype = 'f'
ORDER BY oid
"""


@contextmanager
def indexes_set_aside(cursor: psycopg.Cursor[Any], tables: Sequence[str]) -> Iterator[None]:
    """Within a transaction: the foreign keys of `tables`, and indexes that no constraint needs, come back at the end.

    A COPY of millions of rows is several times faster so; where it fails, the transaction takes all of it back.
    """
    put_back: list[str] = []
    for query in (_INDEXES, _FOREIGN_KEYS):
        for drop, add in cursor.execute(query, [list(tables)]).fetchall():
            cursor.execute(drop)
            put_back.append(add)
    yield
    for statement in put_back:
        cursor.execute(statement)
