"""What the restore of one table would do, in rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from refnet.recovery.model.identity import Identity
from refnet.recovery.model.origin import Place


class Mode(StrEnum):
    """`missing`: only rows whose key the live table lacks. `replace`: the table becomes what was backed up."""

    MISSING = "missing"
    REPLACE = "replace"


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
    """What would be done to `table` (`schema.table`) at `place`, from `artifact` of the moment `created`, which holds the
    database `origin`.
    """

    place: Place
    table: str
    artifact: str
    origin: Identity
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
        """Whether a live row would be changed or deleted."""
        return bool(self.change or self.delete)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.add or self.change or self.delete)
