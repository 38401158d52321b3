"""The interface of a store."""

from collections.abc import Container
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Manifest
from refnet.catalog.source_name import SourceName


@dataclass(frozen=True)
class Leftover:
    """A file that a crashed run left: harmless, listed, and removed by prune."""

    source: SourceName
    name: str
    #: In bytes.
    size: int
    why: str


@dataclass(frozen=True)
class Unlisted:
    """A file that looks like an artifact and is not in the catalog; it is never deleted."""

    source: SourceName
    name: str
    #: In bytes.
    size: int
    #: Continues a sentence that begins with `name`.
    why: str
    advice: str
    #: It may be in the catalog and cannot be read now; otherwise it was never in the catalog.
    unreadable: bool
    #: `refnet adopt` can write a new manifest for it.
    adoptable: bool = False
    #: Of a remote store: the fingerprint of a signer who is not trusted.
    signer: str = ""
    #: Of a remote store: no key at hand opens it.
    needs_key: bool = False


@dataclass(frozen=True)
class HalfMade:
    """A copy that a restore is loading, or that a killed restore left."""

    source: SourceName
    #: The database, or the folder.
    what: str
    at: datetime


class Draft(Protocol):
    """An artifact that is being written under a hidden name; it is removed unless it is published."""

    @property
    def out(self) -> BinaryIO: ...

    def publish(
        self, made: Made, local: datetime, seconds: float, others: Container[str] = frozenset()
    ) -> Manifest:
        """Flush, fsync, read back and compare, rename, fsync the folder; then the list of files and the manifest.

        `local` is the time for the name; `others`: names that artifacts elsewhere have. RefnetError if the bytes read back differ.
        """


class AnyStore(Protocol):
    """A store of artifacts, here or elsewhere, that can be read."""

    def entries(self, source: SourceName | None = None) -> tuple[Entry, ...]:
        """All published artifacts (of `source`) with their evidence."""

    def artifact(self, entry: Entry) -> OpenArtifact: ...

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        """Append lines of evidence and flush them to the disk; RefnetError if that fails."""


class Store(AnyStore, Protocol):
    """A store in which artifacts are made. Deleting goes in the reverse order of publishing."""

    def delete(self, entry: Entry) -> None: ...

    def entries_and_leftovers(
        self, source: SourceName | None = None
    ) -> tuple[tuple[Entry, ...], tuple[Leftover, ...]]:
        """`entries` and `leftovers` from one scan."""

    def leftovers(self, source: SourceName | None = None) -> tuple[Leftover, ...]:
        """Files that crashed runs left (of `source`), in order of removal."""

    def clean(self, leftover: Leftover) -> None: ...

    def lock(self, source: SourceName) -> AbstractContextManager[object]:
        """Lock a source; RefnetError with Exit.LOCKED if another run has it locked."""

    def draft(self, source: SourceName) -> AbstractContextManager[Draft]: ...

    def mark(self, entry: Entry, marks: Marks) -> None:
        """Replace the marks of `entry` durably; RefnetError on failure, with the marks unchanged."""

    def free_bytes(self) -> int | None:
        """Free space for new artifacts, in bytes; None: unknown."""
