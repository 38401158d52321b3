"""The first seam: what every source can do. The verbs know a source by this alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import Level, Manifest, Outcome, SourceName

#: Entries of a list of files, and its bytes when inflated. A reader holds both in memory (about 1 GB at most), so no
#: backup writes more, and what claims more is damaged.
MOST_FILES = 1_000_000
MOST_LIST_BYTES = 512 << 20

#: Called with what is being done, how much of it is done, and how much there is (None: not known), in bytes.
Progress = Callable[[str, int, int | None], None]


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Made:
    """What a source says of the artifact that it has just written.

    `created`: the moment whose state it holds (aware). `files`: the list of files as JSON, not yet
    compressed, or None. `unchecked`: what could not be protected or verified, a sentence each. `warnings`: what
    else a person should know of how it was made. `published`: when it is published, by this machine's clock.
    `shrunk`: what is much less than in the artifact `shrunk_from`.
    """

    created: datetime
    details: dict[str, Any]
    files: bytes | None = None
    unchecked: tuple[str, ...] = ()
    partial: bool = False
    warnings: tuple[str, ...] = ()
    published: datetime | None = None
    shrunk: tuple[str, ...] = ()
    shrunk_from: str = ""


@dataclass(frozen=True)
class OpenArtifact:
    """An artifact that can be read, in a store or at any path.

    `open` gives a new seekable reader each time; `files` reads the list of files (JSON, inflated), where
    there is one; `manifest` is None for a path that has none. `path`: where it lies, for programs that read
    files by themselves; None where it lies in no file.
    """

    name: str
    open: Callable[[], BinaryIO]
    manifest: Manifest | None
    files: Callable[[], bytes | None] = lambda: None
    path: Path | None = None


def most_listed(manifest: Manifest | None) -> int:
    """How many entries the list of files of an artifact may name: as many as its manifest counts, MOST_FILES at most."""
    details = manifest.details if manifest else {}
    counts = [details.get(kind) for kind in ("files", "folders", "links")]
    known = [count for count in counts if type(count) is int and count >= 0]
    return min(sum(known), MOST_FILES) if len(known) == len(counts) else MOST_FILES


class Deviation(StrEnum):
    """How what was found differs from what was recorded."""

    MISSING = "missing"
    CHANGED = "changed"
    EXTRA = "extra"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    what: str
    outcome: Outcome
    #: Why it did not pass.
    reason: str = ""
    #: None unless a comparison failed.
    deviation: Deviation | None = None


@dataclass(frozen=True)
class Proof:
    """What a check found: the level that it reached with everything passing, and each finding.

    `level` None: not even `written`. `rows`: for display, a dict a table or a kind of file.
    `seconds`: phase → seconds, in order. `missing_walls`: which walls around the scratch server this machine could
    not build.
    """

    wanted: Level
    level: Level | None
    findings: tuple[Finding, ...]
    server: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()
    missing_walls: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        outcomes = {finding.outcome for finding in self.findings}
        if Outcome.FAILED in outcomes:
            return Outcome.FAILED
        reached = self.level is not None and self.level.rank >= self.wanted.rank
        return Outcome.PASSED if reached else Outcome.UNVERIFIED

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(f"{f.what}: {f.reason}" for f in self.findings if f.outcome is not Outcome.PASSED)


class TransientError(RefnetError):
    """A dump that could not be had just now; one more try, from the beginning, may find it otherwise."""


class Source(Protocol):
    """What is protected. Both calls raise RefnetError for what a user can cause."""

    @property
    def name(self) -> SourceName: ...

    def dump(self, out: BinaryIO, progress: Progress = silent) -> Made:
        """Write one artifact to `out` (append only) and say what it holds."""
        ...

    def prove(self, held: OpenArtifact, level: Level, progress: Progress = silent) -> Proof:
        """Check `held` up to `level`, beyond `written`, which the store checks; touch nothing live."""
        ...
