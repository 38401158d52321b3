"""The table of contents of a schema archive, as `pg_restore -l` prints it, and which task restores which entry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refnet.sources.database.artifact.index import Table

_LINE = re.compile(r"([0-9]{1,10}); ([0-9]{1,10}) ([0-9]{1,10}) (.*)")
_RELATION, _CONSTRAINT = 1259, 2606  # the oids of pg_class and pg_constraint


@dataclass(frozen=True)
class Item:
    """One entry."""

    #: As pg_restore printed it.
    line: str
    dump_id: int
    #: The oids of the object's catalog and of the object, in the source.
    catalog: int
    oid: int
    #: Kind, schema, name and owner.
    what: str

    @property
    def is_index(self) -> bool:
        return self.catalog == _RELATION and self.what.startswith("INDEX ")

    @property
    def is_key(self) -> bool:
        return self.catalog == _CONSTRAINT and self.what.startswith("CONSTRAINT ")

    @property
    def is_foreign_key(self) -> bool:
        return self.catalog == _CONSTRAINT and self.what.startswith("FK CONSTRAINT ")

    @property
    def is_leaf(self) -> bool:
        """Whether only comments depend on it."""
        return self.is_foreign_key or self.is_refresh or self.is_label

    @property
    def is_label(self) -> bool:
        return self.what.startswith("SECURITY LABEL ")

    @property
    def is_refresh(self) -> bool:
        return self.what.startswith("MATERIALIZED VIEW DATA ")


def parse(text: str) -> tuple[Item, ...]:
    """Return the entries of `pg_restore -l`, in its order; its comments begin with `;`."""
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return tuple(Item(m[0], int(m[1]), int(m[2]), int(m[3]), m[4]) for m in matches if m)


@dataclass(frozen=True)
class Shares:
    """The entries of post-data by the task that restores them."""

    #: Oid of a table → its entries.
    keys: dict[int, list[Item]]
    indexes: dict[int, list[Item]]
    #: Oid of the table, oid of the table that it refers to, entry.
    foreign: list[tuple[int, int, Item]]
    #: Everything else, in order.
    rest: list[Item]


def share(items: Sequence[Item], tables: Iterable[Table]) -> Shares:
    """Separate entries that can be restored once their tables, copied in blocks, are loaded.

    A foreign key needs both tables: it comes early only if both are copied in blocks.
    """
    blocks = {table.oid: table for table in tables if table.blocks}
    owner = {oid: table.oid for table in blocks.values() for oid in table.keys}
    refers = {
        int(oid): (table.oid, referred)
        for table in blocks.values()
        for oid, referred in table.foreign_keys.items()
        if referred in blocks
    }
    shares = Shares({}, {}, [], [])
    for item in items:
        if item.is_index and item.oid in owner:
            shares.indexes.setdefault(owner[item.oid], []).append(item)
        elif item.is_key and item.oid in owner:
            shares.keys.setdefault(owner[item.oid], []).append(item)
        elif item.is_foreign_key and item.oid in refers:
            shares.foreign.append((*refers[item.oid], item))
        else:
            shares.rest.append(item)
    return shares
