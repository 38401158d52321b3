"""The content of an artifact: its proof, its files or tables, what differs from another, and the answer to a query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from refnet.catalog.artifact import Made, OpenArtifact, Proof
from refnet.catalog.manifest import Level, utc
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.core.member_names import spelled
from refnet.proof_run import ProofOptions

#: The name of what is live, in the place of an artifact.
LIVE = "live"
#: The most paths that a search remembers.
MOST = 1_000_000


class Artifact(ABC):
    """The content of an artifact. RefnetError (DAMAGED) if it is RefNet's own and unreadable."""

    def __init__(self, stored: OpenArtifact) -> None:
        self.stored = stored

    @property
    def name(self) -> str:
        return self.stored.name

    def damaged(self, why: object) -> RefnetError:
        return RefnetError(
            f"{self.name} is damaged: {why}", "Choose another artifact (`refnet list`).", Exit.DAMAGED
        )

    def describe(self, _created: datetime, /) -> Made | None:
        """Values for a new manifest in place of a lost one; None if the content does not record them.

        The argument is the probable time, for content that does not record it.
        """
        return None

    def tables(self) -> tuple[dict[str, Any], ...]:
        """Return the recorded tables of a database, as in `Proof.rows`."""
        return ()

    @abstractmethod
    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check the content up to `level`; the store has checked `written`. Touch nothing live."""


@dataclass(frozen=True)
class ItemVersion:
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

    def same(self, other: ItemVersion) -> bool:
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

    def versions(self, artifact: OpenArtifact) -> tuple[ItemVersion, ...]:
        """Matches in `artifact`; RefnetError if it is unreadable."""
        ...


@dataclass(frozen=True)
class Changed:
    """A file or table that differs between both sides, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class ArtifactDifference:
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


@dataclass(frozen=True)
class AnswerLimits:
    """Limits of an answer."""

    #: For each statement.
    seconds: float = 60.0
    rows: int = 100_000
    #: Of the rows as text.
    bytes: int = 64 << 20


class RowReader(Protocol):
    """Reader of the rows of a query."""

    @property
    def count(self) -> int:
        """Number of rows read."""
        ...

    @property
    def cut(self) -> RefnetError | None:
        """Why it stopped early; None: the end was reached."""
        ...


@dataclass(frozen=True)
class Query:
    """A query and how it is answered."""

    #: Of SQL; "": the first rows of the table `sample`.
    query: str
    limits: AnswerLimits = AnswerLimits()
    #: The newest artifact of a source at or before this time.
    at: str | None = None
    #: Load every table.
    everything: bool = False
    #: Load a foreign dump even where this machine cannot build every isolation layer.
    trust: bool = False
    #: Each row is one JSON object.
    as_json: bool = False
    sample: str = ""


@dataclass
class QueryAnswer:
    """An answer that is being read."""

    artifact: OpenArtifact
    columns: tuple[str, ...]
    #: Read it once; `cut` and `notes` are complete afterwards.
    rows: Iterator[tuple[str | None, ...]]
    #: The loaded tables, sorted; None: all, of a foreign dump.
    loaded: tuple[str, ...] | None
    asker: RowReader
    notes: list[str] = field(default_factory=list)

    @property
    def cut(self) -> RefnetError | None:
        """Why the answer is incomplete; None: complete."""
        return self.asker.cut

    def head(self) -> dict[str, Any]:
        """Return the report without its rows."""
        manifest = self.artifact.manifest
        return {
            "artifact": self.artifact.name,
            "created": utc(manifest.created) if manifest else None,
            "columns": list(self.columns),
            "tables_loaded": None if self.loaded is None else list(self.loaded),
        }


def repeated(columns: tuple[str, ...]) -> RefnetError:
    """Error about equal column names: JSON would keep only the last one."""
    name = next(one for one in columns if columns.count(one) > 1)
    return RefnetError(
        f"{plural(columns.count(name), 'column')} of the answer are called {name}, and JSON needs unique names",
        "Name them in the query: SELECT a.id AS a_id, b.id AS b_id …",
        Exit.USAGE,
    )
