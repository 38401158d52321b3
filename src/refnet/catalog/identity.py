"""Identity of a source: for a database its name and its server's system identifier, otherwise a random id.

Two servers may each have a database `app`, and two machines with a vault each may share one backup folder: their
artifacts are never confused.
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
        """Identity from a manifest's details, or None."""
        database, system = details.get("database"), details.get("system_identifier")
        if not isinstance(database, str) or not 0 < len(database) <= _LONGEST:
            return None
        known = isinstance(system, str) and len(system) <= _LONGEST and system.isdecimal()
        return cls(database, system if known else None)

    def matches(self, other: Self | None) -> bool:
        """Whether `other` is the same database, or one that it continues, as far as known."""
        if other is None or self.database != other.database:
            return False
        return self.system is None or other.system in {None, self.system, *self.before}

    def __str__(self) -> str:
        return self.database if self.system is None else f"{self.database} (server {self.system})"


@dataclass(frozen=True)
class SourceId:
    """A folder, or the roles of a server."""

    #: Random, 32 hex digits: its first artifact got it.
    id: str

    def matches(self, other: object) -> bool:
        return other == self

    def __str__(self) -> str:
        return self.id[:8]


#: What an artifact was made of.
Whose = Identity | SourceId


def labels(identities: Iterable[Whose | None]) -> dict[Whose | None, str]:
    """Labels for `identities`: the name of a database, with the server if ambiguous."""
    found = dict.fromkeys(identities)
    names = [one.database for one in found if isinstance(one, Identity)]
    return {
        one: "unknown"
        if one is None
        else one.database
        if isinstance(one, Identity) and names.count(one.database) == 1
        else str(one)
        for one in found
    }
