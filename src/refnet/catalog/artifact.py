"""The interfaces of makers of artifacts and of open artifacts."""

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, TypeVar

from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import SOURCE_ROWS, Compared, Entry, Level, Manifest, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.clock import rounded
from refnet.core.errors import Exit, RefnetError

_Result = TypeVar("_Result")
#: The most entries of a list of files, and its most bytes when inflated. A reader has both in memory (at most about
#: 1 GB): a backup writes no more, and a longer list is damaged.
MOST_FILES = 1_250_000
MOST_LIST_BYTES = 512 << 20


class Counted(str):
    """A step that counts things instead of bytes; `unit` says what: notes, papers."""

    __slots__ = ("unit",)
    unit: str

    def __new__(cls, step: str, unit: str) -> Self:
        made = super().__new__(cls, step)
        made.unit = unit
        return made


#: Called with the current step, and the bytes (Counted: things) done and in all (None: unknown). A step of (0, None) has
#: only a name.
Progress = Callable[[str, int, int | None], None]


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Ignore progress."""


#: Called by a source when the moment of its artifact is fixed; returns when it may copy.
Turn = Callable[[], None]


def at_once() -> None:
    """Copy at once."""


@dataclass(frozen=True)
class Made:
    """A source's description of the artifact that it has just written."""

    #: The time of the snapshot, aware.
    created: datetime
    details: dict[str, Any]
    #: The list of files as JSON, not compressed, if there is one.
    files: bytes | None = None
    #: What could not be protected or verified, a sentence each.
    unchecked: tuple[str, ...] = ()
    partial: bool = False
    #: Problems of the dump, a sentence each.
    warnings: tuple[str, ...] = ()
    #: The time of publication, by this machine's clock.
    published: datetime | None = None
    #: How it was compared with its source, see Manifest.
    compared: Compared = Compared.NOT
    #: What is much less than in the artifact `shrunk_from`.
    shrunk: tuple[str, ...] = ()
    shrunk_from: str = ""
    #: Of its manifest: the id of the source, its number, and the servers that a database continues.
    identity_id: str = ""
    number: int | None = None
    continues: tuple[str, ...] = ()
    #: The identity of the file whose bytes the artifact shares, if the source has compared them with their digest.
    same_file: tuple[int, ...] = ()
    #: Instead of `files`: that of the artifact whose bytes the new one shares, as it is stored (gzip), checked.
    packed_files: bytes | None = None


@dataclass(frozen=True)
class OpenArtifact:
    """An artifact that can be read, in a store or at any path."""

    source: SourceName
    name: str
    #: Returns a new seekable reader.
    open: Callable[[], BinaryIO]
    #: None: a path without one.
    manifest: Manifest | None
    #: Reads the list of files (JSON, inflated), if there is one.
    files: Callable[[], bytes | None] = lambda: None
    #: For programs that read files themselves; None: it is not a file.
    path: Path | None = None
    #: Its entry in the catalog of its store; None: a file without one, of which no evidence is recorded.
    entry: Entry | None = None
    #: Appends lines of evidence to that entry; RefnetError where that fails.
    record: Callable[..., None] | None = None
    #: Reads what `files` reads as it is stored (gzip), and checks it; None: only `files` does.
    packed_files: Callable[[], bytes | None] = lambda: None
    #: Reads what `files` reads, in pieces; RefnetError (DAMAGED) after the last one if they are not what was stored.
    file_pieces: Callable[[], Iterator[bytes]] = lambda: iter(())
    #: The name of the remote store that it is read from, or "".
    store: str = ""
    #: For the plan of a restore: what about its choice a clock that was wrong decides, a sentence each.
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for messages, with its remote store."""
        return f"{self.name} in {self.store}" if self.store else self.name

    @property
    def damage(self) -> str:
        """Reason of the last failed check if the artifact counts as damaged, else ""."""
        if not (self.entry and self.entry.damaged):
            return ""
        failed = [line for line in self.entry.evidence if line.fails]
        return "; ".join(failed[-1].reasons if failed else ()) or "a check failed"

    @property
    def row_digests(self) -> str:
        """Digests of its tables, from a proof; "" if none were recorded."""
        return self.entry.row_digests if self.entry else ""

    def refusals(self, *, anyway: bool) -> tuple[RefnetError, ...]:
        """Errors that forbid a restore: the artifact is damaged, and `anyway` is false."""
        if anyway or not self.damage:
            return ()
        return (
            RefnetError(
                f"{self.name} is damaged: {self.damage}",
                "Choose another (`refnet list`), or give --damaged-anyway; the restored data is compared in any case.",
                Exit.DAMAGED,
            ),
        )


def most_listed(manifest: Manifest | None) -> int:
    """Upper bound of the entries in an artifact's list of files, from its manifest; at most MOST_FILES."""
    details = manifest.details if manifest else {}
    counts = [details.get(kind) for kind in ("files", "folders", "links")]
    known = [count for count in counts if type(count) is int and count >= 0]
    return min(sum(known), MOST_FILES) if len(known) == len(counts) else MOST_FILES


class Deviation(StrEnum):
    """How live data differ from the recorded data."""

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
    #: Whose fault it is that it did not pass; None: damage if it failed, else the environment's.
    fault: Fault | None = None

    @property
    def whose(self) -> Fault | None:
        """The fault of a check that did not pass; None if it passed."""
        if self.outcome is Outcome.PASSED:
            return None
        return self.fault or (Fault.DAMAGE if self.outcome is Outcome.FAILED else Fault.ENVIRONMENT)

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "outcome": self.outcome, "reason": self.reason, "fault": self.whose}


def fault_of(error: RefnetError | OSError) -> Fault:
    """Fault of an error that ended a check; damage only if wrong bytes were read."""
    if isinstance(error, RefnetError) and error.code is Exit.DAMAGED:
        return Fault.DAMAGE
    cause = error if isinstance(error, OSError) else error.__cause__
    again = isinstance(cause, OSError) and cause.errno in _AGAIN
    return Fault.TRANSIENT if again or getattr(error, "transient", False) else Fault.ENVIRONMENT


#: The next attempt may read the same bytes: a disk, or the server of one, that failed or was away.
_AGAIN = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENFILE),
        *(
            errno.EMFILE,
            errno.ENOTCONN,
            errno.ECONNRESET,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.EREMOTEIO,
        ),
    }
)


def stopped_by(what: str, error: RefnetError | OSError) -> Finding:
    """Finding for the check `what` that `error` ended."""
    fault = fault_of(error)
    outcome = Outcome.FAILED if fault is Fault.DAMAGE else Outcome.UNVERIFIED
    why = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else error.message
    return Finding(what, outcome, why, fault=fault)


@dataclass(frozen=True)
class Proof:
    """The result of a check."""

    wanted: Level
    #: The level that it reached without a failure; None: not even `written`.
    level: Level | None
    findings: tuple[Finding, ...]
    #: The version of the server that it was done with.
    server: str = ""
    #: Phase → seconds, in order.
    seconds: dict[str, float] = field(default_factory=dict)
    #: For a display: one for each table or kind of file.
    rows: tuple[dict[str, Any], ...] = ()
    #: The isolation layers of the scratch server that this machine could not build.
    missing_walls: tuple[str, ...] = ()
    #: The content digests of a proven database's tables, in the order of its index, 32 hex digits each.
    row_digests: str = ""
    #: How the artifact was compared with its source while it was made.
    made: Compared = Compared.NOT

    @property
    def compared(self) -> Compared:
        """How the artifact was compared with its source, according to this proof."""
        passed = any(one.what == SOURCE_ROWS and one.outcome is Outcome.PASSED for one in self.findings)
        return Compared.COUNTED if self.made is Compared.DIGESTED and not passed else self.made

    @property
    def outcome(self) -> Outcome:
        outcomes = {finding.outcome for finding in self.findings}
        if Outcome.FAILED in outcomes:
            return Outcome.FAILED
        reached = self.level is not None and self.level.rank >= self.wanted.rank
        return Outcome.PASSED if reached else Outcome.UNVERIFIED

    @property
    def fault(self) -> Fault | None:
        """The worst fault of all findings; None if everything passed."""
        found = {finding.whose for finding in self.findings}
        return next((fault for fault in reversed(Fault) if fault in found), None)

    @property
    def faulty(self) -> tuple[str, ...]:
        """Objects of the source that no server accepts, if the artifact is otherwise proven."""
        if self.level is not Level.PROVEN:
            return ()
        return tuple(one.what for one in self.findings if one.whose is Fault.SOURCE)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(f"{f.what}: {f.reason}" for f in self.findings if f.outcome is not Outcome.PASSED)

    def to_json(self) -> dict[str, Any]:
        """JSON values of the proof; `level`: the level reached, `seconds`: by phase."""
        return {
            "outcome": self.outcome,
            "level": self.level,
            "fault": self.fault,
            "compared": self.compared or None,
            "server": self.server,
            "missing_walls": list(self.missing_walls),
            "seconds": rounded(self.seconds),
            "findings": [finding.to_json() for finding in self.findings],
            "rows": list(self.rows),
        }


class TransientError(RefnetError):
    """A transient dump failure: retry from the beginning."""

    #: The most attempts.
    tries = 2


def retried(make: Callable[[], _Result]) -> _Result:
    """Call `make` until it succeeds, or has failed as often as its TransientError allows."""
    for tried in itertools.count(1):
        try:
            return make()
        except TransientError as error:
            if tried >= error.tries:
                raise
    raise AssertionError


class Maker(Protocol):
    """Makes artifacts of one source."""

    @property
    def name(self) -> SourceName: ...

    def digesting(self, up_to: int) -> Self | None:
        """A maker that also compares the content of up to `up_to` bytes with the source; None: unsupported by this kind."""

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        """Write one artifact to `out` (append only) and describe it; RefnetError for errors that a user can cause."""
