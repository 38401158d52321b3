"""The identity of a database: its name, and the system identifier of its server (cluster).

Two servers may each have a database `app`, and two databases may share one backup folder: they are never confused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

#: Longer than any name that PostgreSQL takes, in characters.
_LONGEST = 256


@dataclass(frozen=True)
class Identity:
    """A database."""

    database: str
    #: PostgreSQL's system identifier of its cluster; None: unknown, and the name alone decides.
    system: str | None = None
    #: The clusters that it was restored from, under the same name: it continues their artifacts.
    before: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Self | None:
        """Return the identity in the details of a manifest; None if there is none."""
        database, system = details.get("database"), details.get("system_identifier")
        if not isinstance(database, str) or not 0 < len(database) <= _LONGEST:
            return None
        known = isinstance(system, str) and len(system) <= _LONGEST and system.isdecimal()
        return cls(database, system if known else None)

    def matches(self, other: Self | None) -> bool:
        """Return whether `other` is the same database, or one that it continues, as far as both are known."""
        if other is None or self.database != other.database:
            return False
        return self.system is None or other.system in {None, self.system, *self.before}

    def __str__(self) -> str:
        return self.database if self.system is None else f"{self.database} (server {self.system})"


def labels(identities: Iterable[Identity | None]) -> dict[Identity | None, str]:
    """Return a label for each of `identities`: its name, with the server if the name is ambiguous."""
    found = set(identities)
    names = [one.database for one in found if one]
    return {
        one: "unknown" if one is None else one.database if names.count(one.database) == 1 else str(one)
        for one in found
    }
