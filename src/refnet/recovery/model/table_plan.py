"""The plan of the restore of one table, in rows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

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
