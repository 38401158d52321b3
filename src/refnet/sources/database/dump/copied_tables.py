"""The tables of an artifact while it is written: their order, their rows and the bytes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refnet.sources.database.artifact.index import Table
from refnet.sources.database.artifact.member_rows import Packed, TableKey
from refnet.sources.database.dump.snapshot import OpenSnapshot, Relation
from refnet.sources.database.dump.source_rows import Digested


class CopiedTables:
    """The tables of an artifact in the order in which their members come, and their sizes."""

    def __init__(self, snapshot: OpenSnapshot, large: tuple[Relation, ...]) -> None:
        self.columns = snapshot.columns(large)
        self._keys, self._foreign_keys = snapshot.keys(large)
        self._of_blocks = {(r.schema, r.name): r for r in large}
        self._by_name = {(r.schema, r.name): r for r in snapshot.relations}
        #: Rows, and bytes of them.
        self._sizes: dict[TableKey, tuple[int, int]] = dict.fromkeys(self._of_blocks, (0, 0))
        self._numbers = {key: number for number, key in enumerate(self._sizes)}

    def size_if_new(self, packed: Packed) -> int:
        """Size of a small table if `packed` is its first member, else 0."""
        key = packed.table
        small = self._by_name.get(key) if key and key not in self._sizes else None
        return small.size if small else 0

    def count(self, packed: Packed) -> int | None:
        """Add a member's rows to its table; return the table's number, or None if the member has no rows."""
        if packed.table is None:
            return None
        rows, size = self._sizes.get(packed.table, (0, 0))
        self._sizes[packed.table] = (rows + packed.rows, size + packed.row_bytes)
        return self._numbers.setdefault(packed.table, len(self._numbers))

    @property
    def rows(self) -> dict[TableKey, int]:
        """The rows of each table in the artifact."""
        return {key: rows for key, (rows, _) in self._sizes.items()}

    def finished(
        self, columns: dict[TableKey, tuple[str, ...]], digested: Callable[[int], Digested]
    ) -> tuple[Table, ...]:
        """Return every table. `columns`: of the tables that pg_dump copied. `digested`: by oid, on the server."""
        tables = (self._finished(key, *sizes, columns) for key, sizes in self._sizes.items())
        return tuple(
            replace(one, source=found.rows, generated=found.generated)
            for one, found in ((each, digested(each.oid)) for each in tables)
        )

    def _finished(
        self, key: TableKey, rows: int, size: int, columns: dict[TableKey, tuple[str, ...]]
    ) -> Table:
        schema, name = key
        own = self._of_blocks.get(key)
        relation = self._by_name.get(key)
        oid = relation.oid if relation else 0
        return Table(
            schema,
            name,
            self.columns[oid] if own else columns[key],
            blocks=own is not None,
            root=relation is not None and relation.kind == "p",
            rows=rows,
            raw=size,
            oid=oid,
            keys=self._keys.get(oid, ()),
            foreign_keys=self._foreign_keys.get(oid, {}),
        )
