"""Reads the size of a database and of each of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.catalog_queries import user_relations
from refnet.sources.database.sql_names import Codec

_SIZES = user_relations(
    "n.nspname::text, c.relname::text, pg_table_size(c.oid), pg_indexes_size(c.oid), greatest(c.reltuples, 0)::int8",
    "rm",
    "ORDER BY pg_total_relation_size(c.oid) DESC, 1, 2",
)


@dataclass(frozen=True)
class TableSize:
    """The size of a table or materialized view."""

    name: str
    #: Bytes of its rows, TOAST included.
    data: int
    #: Bytes of its indexes.
    indexes: int
    #: Estimated.
    rows: int

    @property
    def total(self) -> int:
        return self.data + self.indexes

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bytes": self.total,
            "data_bytes": self.data,
            "index_bytes": self.indexes,
            "rows_about": self.rows,
        }


def sizes(target: Target) -> tuple[int, tuple[TableSize, ...]]:
    """Return the bytes of the database, and its tables, the largest first."""
    with target.connect(READER_SETTINGS) as session:
        codec, _ = Codec.of_server(session)
        ((size,),) = codec.rows(session, "SELECT pg_database_size(current_database())")
        rows = codec.rows(session, _SIZES)
    return size, tuple(TableSize(f"{schema}.{name}", *counts) for schema, name, *counts in rows)
