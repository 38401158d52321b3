"""How much room a database and each of its tables take."""

from __future__ import annotations

from dataclasses import dataclass

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.sources.database.catalog_queries import user_relations

_SIZES = user_relations(
    "n.nspname::text, c.relname::text, pg_table_size(c.oid), pg_indexes_size(c.oid), greatest(c.reltuples, 0)::int8",
    "rm",
    "ORDER BY pg_total_relation_size(c.oid) DESC, 1, 2",
)


@dataclass(frozen=True)
class TableSize:
    """A table or materialized view: bytes of its rows (TOAST included) and of its indexes, about how many rows."""

    name: str
    data: int
    indexes: int
    rows: int

    @property
    def total(self) -> int:
        return self.data + self.indexes


def sizes(target: Target) -> tuple[int, tuple[TableSize, ...]]:
    """Bytes of the whole database, and its tables, the largest first."""
    with target.connect(READER_SETTINGS, encoding="UTF8") as session:
        whole = session.execute("SELECT pg_database_size(current_database())").fetchone()
        rows = session.execute(_SIZES).fetchall()
    tables = tuple(TableSize(f"{schema}.{name}", *counts) for schema, name, *counts in rows)
    return (whole[0] if whole else 0), tables
