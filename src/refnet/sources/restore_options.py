"""Options of a restore with a fixed choice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Compare(StrEnum):
    """The comparison of a copy with the backup."""

    CONTENT = "content"
    COUNTS = "counts"


class Mode(StrEnum):
    """How rows of an existing table change. Only `replace` deletes rows, and works without a primary key."""

    #: Adds the rows whose key is missing, and touches no others.
    MISSING = "missing"
    #: Adds them, and changes those that differ.
    MERGE = "merge"
    #: Restores the table to its state in the artifact.
    REPLACE = "replace"


@dataclass(frozen=True)
class AsOf:
    """The moment that a cluster is recovered to; nothing is given: the end of the base backup."""

    #: An ISO time; "": none.
    time: str = ""
    #: A position of the WAL; "": none.
    lsn: str = ""
    latest: bool = False
    #: None: the one that the server was on.
    timeline: int | None = None
