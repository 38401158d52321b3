"""A query on an artifact, and its answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import utc
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural


@dataclass(frozen=True)
class Limits:
    """Limits of an answer."""

    #: For each statement.
    seconds: float = 60.0
    rows: int = 100_000
    #: Of the rows as text.
    bytes: int = 64 << 20


class Asker(Protocol):
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
class Asked:
    """A query and how it is answered."""

    query: str
    limits: Limits = Limits()
    #: The newest artifact of a source at or before this time.
    at: str | None = None
    #: Load every table.
    everything: bool = False
    #: Load a foreign dump even where this machine cannot build every isolation layer.
    trust: bool = False
    #: Each row is one JSON object.
    as_json: bool = False


@dataclass
class Answer:
    """An answer that is being read."""

    artifact: OpenArtifact
    columns: tuple[str, ...]
    #: Read it once; `cut` and `notes` are complete afterwards.
    rows: Iterator[tuple[str | None, ...]]
    #: The loaded tables, sorted; None: all, of a foreign dump.
    loaded: tuple[str, ...] | None
    asker: Asker
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
        f"{plural(columns.count(name), 'column')} of the answer have the name {name}, and JSON needs different ones",
        "Name them in the query: SELECT a.id AS a_id, b.id AS b_id …",
        Exit.USAGE,
    )
