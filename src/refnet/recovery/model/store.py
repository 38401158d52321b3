"""The second seam: what every store can do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from refnet.recovery.model.artifact import Entry, Evidence, Manifest, SourceName
from refnet.recovery.model.source import Made, OpenArtifact


@dataclass(frozen=True)
class Leftover:
    """What a crashed run left: harmless, listed by name, cleaned by prune. `size` in bytes."""

    source: SourceName
    name: str
    size: int
    why: str


@dataclass(frozen=True)
class Unlisted:
    """What looks like an artifact and counts for nothing; it is never deleted.

    `why` continues a sentence that begins with `name`; `advice` says what to do. `unreadable`: it may be one of
    the catalog's own, which cannot be read now; otherwise it was never in the catalog. `adoptable`: whether a new
    manifest can be made for it. `size` in bytes.
    """

    source: SourceName
    name: str
    size: int
    why: str
    advice: str
    unreadable: bool
    adoptable: bool = False


class Draft(Protocol):
    """An artifact that is being written, under a hidden name; gone unless it is published."""

    @property
    def out(self) -> BinaryIO: ...

    def publish(self, made: Made, local: datetime, seconds: float) -> Manifest:
        """Flush, fsync, read back and compare, rename, fsync the folder; then the list of files and the
        manifest in the same way. `local` is the time for the name. RefnetError where the bytes read back differ.
        """
        ...


class Store(Protocol):
    """Where artifacts live. Deleting goes in the opposite order of publishing."""

    def entries(self, source: SourceName | None = None) -> tuple[Entry, ...]:
        """Every published artifact (of `source`) with its evidence."""
        ...

    def draft(self, source: SourceName) -> AbstractContextManager[Draft]: ...

    def artifact(self, entry: Entry) -> OpenArtifact: ...

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        """Append lines of evidence and flush them to the disk; RefnetError where not all of it was written."""
        ...

    def delete(self, entry: Entry) -> None: ...

    def leftovers(self, source: SourceName | None = None) -> tuple[Leftover, ...]:
        """What crashed runs left (of `source`), in the order in which it is cleaned."""
        ...

    def clean(self, leftover: Leftover) -> None: ...

    def lock(self, source: SourceName) -> AbstractContextManager[None]:
        """The one lock of a source, held by the kernel; RefnetError with Exit.LOCKED where another run holds it."""
        ...

    def free_bytes(self) -> int | None:
        """Room for new artifacts, or None where it cannot be known."""
        ...
