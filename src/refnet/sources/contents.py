"""Content of artifacts: files or tables of one, differences between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.member_names import spelled

#: The name of what is live, in the place of an artifact.
LIVE = "live"
#: The most paths that a search remembers.
MOST = 1_000_000


@dataclass(frozen=True)
class Version:
    """A file, folder, link or table in one artifact."""

    name: str
    #: A kind of file, or table.
    kind: str
    #: In bytes; of a table, of its COPY text.
    size: int
    #: SHA-256 of a file, the content digest of a table; "" if there is none or it is not recorded.
    digest: str = ""
    #: Of a table.
    rows: int | None = None
    #: What else counts as a change: permission bits, the target of a link, columns.
    more: tuple[str, ...] = ()

    def same(self, other: Version) -> bool:
        """Whether both are equal; digests are compared only if both are known."""
        digests = not (self.digest and other.digest) or self.digest == other.digest
        return digests and (self.kind, self.size, self.rows, self.more) == (
            other.kind,
            other.size,
            other.rows,
            other.more,
        )


class ListedTable(Protocol):
    """A table in a list of what an artifact contains."""

    @property
    def schema(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def qualified(self) -> str: ...

    @property
    def rows(self) -> int: ...

    @property
    def raw(self) -> int:
        """Size of its text in bytes; 0: unknown."""
        ...


class Finder(Protocol):
    """Finds files or tables in the artifacts of one source."""

    def versions(self, artifact: OpenArtifact) -> tuple[Version, ...]:
        """Matches in `artifact`; RefnetError if it is unreadable."""
        ...


@dataclass(frozen=True)
class Changed:
    """A file or table that differs between both sides, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Difference:
    """Files or tables of `after` that are extra, changed or missing compared with `before`."""

    source: SourceName
    before: str
    after: str
    added: tuple[str, ...]
    changed: tuple[Changed, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return not (self.added or self.changed or self.removed)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "before": self.before,
            "after": self.after,
            "equal": self.equal,
            "added": [spelled(name) for name in self.added],
            "changed": [{"name": spelled(one.name), "why": spelled(one.why)} for one in self.changed],
            "removed": [spelled(name) for name in self.removed],
            "notes": [spelled(note) for note in self.notes],
        }
