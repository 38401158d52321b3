"""Whose data an artifact of a database holds: the database by name, on the server (cluster) by its identifier.

Two servers may each have a database `app`, and two databases may share one backup folder: neither stands for the
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Longer than any name that PostgreSQL takes, in characters.
_LONGEST = 256


@dataclass(frozen=True)
class Identity:
    """A database. `system`: PostgreSQL's identifier of its cluster; None: not known, then the name alone decides.

    `before`: the clusters that it was restored from, under the same name: it goes on with their artifacts.
    """

    database: str
    system: str | None = None
    before: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Identity | None:
        """The identity that the details of a manifest record, or None where they record none."""
        database, system = details.get("database"), details.get("system_identifier")
        if not isinstance(database, str) or not 0 < len(database) <= _LONGEST:
            return None
        known = isinstance(system, str) and len(system) <= _LONGEST and system.isdecimal()
        return cls(database, system if known else None)

    def matches(self, other: Identity | None) -> bool:
        """Whether `other` is the same database, or one that it goes on with, as far as both are known."""
        if other is None or self.database != other.database:
            return False
        return self.system is None or other.system in {None, self.system, *self.before}

    def __str__(self) -> str:
        return self.database if self.system is None else f"{self.database} (server {self.system})"


def labels(identities: Iterable[Identity | None]) -> dict[Identity | None, str]:
    """What a display calls each of `identities`: its name, with the server where the name alone is not enough."""
    found = set(identities)
    names = [one.database for one in found if one]
    return {
        one: "unknown" if one is None else one.database if names.count(one.database) == 1 else str(one)
        for one in found
    }
