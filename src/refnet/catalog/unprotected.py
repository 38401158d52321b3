"""Data that no source protects: counted by a backup, recorded in its manifest, reported by check and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from refnet.catalog.evidence import Sentences
from refnet.core import checked
from refnet.core.formatting import plain
from refnet.core.records import Layout, Record

#: The most names that a manifest keeps, and that one line names.
_KEPT, _NAMED = 20, 3


class Lacks(StrEnum):
    """Kinds of unprotected data."""

    #: Entries of config_dir that config.entries does not list.
    FILES = "files"
    #: Databases of the server that no source names.
    DATABASES = "databases"


_ONE = {Lacks.FILES: "entry of config_dir", Lacks.DATABASES: "database of the server"}
_MANY = {Lacks.FILES: "entries of config_dir", Lacks.DATABASES: "databases of the server"}


@dataclass(frozen=True)
class Unprotected(Record):
    """Unprotected names of one kind."""

    LAYOUT = Layout(more=True)

    kind: Lacks
    count: Annotated[int, checked.integer(0, (1 << 63) - 1)]
    #: The first ones.
    first: Sentences

    @classmethod
    def of(cls, kind: Lacks, names: Iterable[str]) -> Unprotected:
        found = tuple(names)
        return cls(kind, len(found), found[:_KEPT])

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Unprotected | None:
        """Read from the details of a valid manifest; None if not recorded."""
        found = details.get("unprotected")
        return cls.from_values(found) if found else None

    def __str__(self) -> str:
        what = _ONE[self.kind] if self.count == 1 else f"{self.count:,} {_MANY[self.kind]}"
        names = [plain(name) for name in self.first[:_NAMED]]
        more = f" and {self.count - len(names)} more" if self.count > len(names) else ""
        return f"{what if self.count != 1 else f'1 {what}'}: {', '.join(names)}{more}"
