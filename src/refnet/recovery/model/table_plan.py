"""The plan of the restore of one table, in rows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from refnet.recovery.model.artifact import utc
from refnet.recovery.model.clock import rounded
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.origin import Destination


class Mode(StrEnum):
    """`missing`: add rows with keys that are missing live. `replace`: restore the table as it was."""

    MISSING = "missing"
    REPLACE = "replace"


@dataclass(frozen=True)
class TableSelection:
    """Tables to restore in place."""

    #: `table` or `schema.table`.
    names: tuple[str, ...]
    mode: Mode


@dataclass(frozen=True)
class Difference:
    """Counts of the artifact's and the live rows, compared by primary key."""

    #: Only in the artifact.
    missing: int
    changed: int
    #: Only live.
    extra: int
    same: int


@dataclass(frozen=True)
class TablePlan:
    """The changes of one table."""

    destination: Destination
    #: `schema.table`.
    table: str
    artifact: str
    #: The database that the artifact is of.
    origin: Identity
    #: The time of the artifact's snapshot.
    created: datetime
    mode: Mode
    difference: Difference

    @property
    def add(self) -> int:
        return self.difference.missing

    @property
    def change(self) -> int:
        return self.difference.changed if self.mode is Mode.REPLACE else 0

    @property
    def delete(self) -> int:
        return self.difference.extra if self.mode is Mode.REPLACE else 0

    @property
    def replaces(self) -> bool:
        """True if a live row would be changed or deleted."""
        return bool(self.change or self.delete)

    @property
    def nothing(self) -> bool:
        """True if there is nothing to do."""
        return not (self.add or self.change or self.delete)

    def to_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "add": self.add,
            "change": self.change,
            "delete": self.delete,
            "alike": self.difference.same,
        }


@dataclass(frozen=True)
class TablesRestored:
    """The plan or the result of the restore of some tables of one artifact."""

    plans: tuple[TablePlan, ...]
    #: By phase; `apply` only where the rows were written.
    seconds: dict[str, float]

    @property
    def done(self) -> bool:
        return "apply" in self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the sums, and each table; `table` is the name if there is only one."""
        first, tables = self.plans[0], [plan.to_json() for plan in self.plans]
        return {
            "database": first.destination.identity.database,
            "server": first.destination.server,
            "from_database": first.origin.database,
            "from_system_identifier": first.origin.system,
            "table": first.table if len(tables) == 1 else None,
            "artifact": first.artifact,
            "created": utc(first.created),
            "mode": first.mode,
            **{key: sum(table[key] for table in tables) for key in ("add", "change", "delete", "alike")},
            "tables": tables,
            "done": self.done,
            "seconds": rounded(self.seconds),
        }
