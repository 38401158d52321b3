"""Counts of what no source protects: made at a backup, kept in its manifest, named by check and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from refnet.core.formatting import plain

#: The most names that a manifest keeps, and that one line names.
_KEPT, _NAMED = 20, 3


class Lacks(StrEnum):
    """The kinds of what is not protected."""

    #: Entries of config_dir that config.entries does not list.
    FILES = "files"
    #: Databases of the server that no source names.
    DATABASES = "databases"


_ONE = {Lacks.FILES: "entry of config_dir", Lacks.DATABASES: "database of the server"}
_MANY = {Lacks.FILES: "entries of config_dir", Lacks.DATABASES: "databases of the server"}


@dataclass(frozen=True)
class Unprotected:
    """Names of one kind that no source protects."""

    kind: Lacks
    count: int
    #: The first ones.
    first: tuple[str, ...]

    @classmethod
    def of(cls, kind: Lacks, names: Iterable[str]) -> Unprotected:
        found = tuple(names)
        return cls(kind, len(found), found[:_KEPT])

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Unprotected | None:
        """Return what the details of a checked manifest name; None if they say nothing."""
        found = details.get("unprotected")
        return cls(Lacks(found["kind"]), found["count"], tuple(found["first"])) if found else None

    def __str__(self) -> str:
        what = _ONE[self.kind] if self.count == 1 else f"{self.count:,} {_MANY[self.kind]}"
        names = [plain(name) for name in self.first[:_NAMED]]
        more = f" and {self.count - len(names)} more" if self.count > len(names) else ""
        return f"{what if self.count != 1 else f'1 {what}'}: {', '.join(names)}{more}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count, "first": list(self.first)}
