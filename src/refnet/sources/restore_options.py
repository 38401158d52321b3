"""The choices of a restore."""

from enum import StrEnum


class Compare(StrEnum):
    """The comparison of a copy with the backup."""

    CONTENT = "content"
    COUNTS = "counts"


class Mode(StrEnum):
    """The change of the rows of a table that exists. Only `replace` deletes rows, and needs no primary key."""

    #: Adds the rows whose key is missing, and touches no others.
    MISSING = "missing"
    #: Adds them, and changes those that differ.
    MERGE = "merge"
    #: Restores the table to its state in the artifact.
    REPLACE = "replace"
