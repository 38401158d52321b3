"""What is recorded about an artifact after it was made.

- Evidence: the results of its checks, one per line, and the verdict from all of them.
- Marks, in `ARTIFACT.marks.json`: a pin, which no deletion overrides, and tags. That file may be damaged, or of a newer
  RefNet. Then the artifact counts as pinned: it is never deleted by mistake.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Annotated, Any, Self

from refnet.core import checked
from refnet.core.records import Layout, Most, Rare, Record

#: Limit of the digests in a line of evidence: those of 1,000 tables. The catalog reads every line.
MOST_ROW_DIGESTS = 32_000


class Level(StrEnum):
    """The depth to which an artifact is proven; each level includes those before it."""

    WRITTEN = "written"
    INTACT = "intact"
    RESTORED = "restored"
    PROVEN = "proven"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_LEVELS = tuple(Level)
_RANKS = {level: rank for rank, level in enumerate(_LEVELS)}


class Outcome(StrEnum):
    """The outcome of a check. `could not verify` is neither a pass nor a failure."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "could not verify"


class Fault(StrEnum):
    """The cause of a check that did not pass. Only damage revokes earlier passes."""

    #: Retry: a network that broke, a disk that failed once.
    TRANSIENT = "transient"
    #: This machine, or the server that it tried with.
    ENVIRONMENT = "environment"
    #: Objects of the source that no server accepts; everything else was restored and compared.
    SOURCE = "source"
    #: The bytes are not what was written, or the restored content differs.
    DAMAGE = "damage"


#: The texts of a manifest and of evidence.
WORDS = checked.text(1 << 20, errors="strict")
MOST_SENTENCES = 100_000
Words = Annotated[str, WORDS]
Sentences = Annotated[tuple[Words, ...], Most(MOST_SENTENCES)]


@dataclass(frozen=True)
class Evidence(Record):
    """One line of `ARTIFACT.evidence.jsonl`: a check and its result."""

    LAYOUT = Layout("a line of evidence", more=True, ascii=False)

    at: datetime
    #: The level that it reached.
    level: Level
    outcome: Outcome
    #: Its duration.
    seconds: Annotated[float, checked.seconds]
    #: The version of the server that it was done with.
    server: Words = ""
    reasons: Sentences = ()
    drill: bool = False
    #: No earlier pass counts any more: earlier lines, or the bytes that they are about, are lost.
    revokes: Rare[bool] = False
    #: The isolation layers of the scratch server that this machine could not build.
    missing_walls: Rare[Sentences] = ()
    #: Not a check: a user confirmed that shrinking was intended.
    accepts: Rare[bool] = False
    #: The content digests of the tables of a proven database, in the order of its index, 32 hex digits each.
    row_digests: Rare[Annotated[str, checked.text(MOST_ROW_DIGESTS, like="[0-9a-f]*")]] = ""
    #: Whose fault it is that something did not pass; None: nothing, or an older RefNet did not record it.
    fault: Rare[Fault | None] = None
    #: The objects of the source that are at fault; in a line that accepts: those that are accepted.
    objects: Rare[Sentences] = ()
    #: The SHA-256 of the artifact, in hex; "": written by an older RefNet, or not beside an artifact.
    artifact: Rare[Annotated[str, checked.text(64, like="[0-9a-f]{64}")]] = field(default="", compare=False)

    @property
    def fails(self) -> bool:
        """Whether the artifact is damaged."""
        return self.outcome is Outcome.FAILED and self.fault in {None, Fault.DAMAGE}


@dataclass(frozen=True)
class Standing:
    """The verdict from all lines of evidence."""

    #: The deepest level that still counts.
    level: Level = Level.WRITTEN
    #: A failure still counts.
    damaged: bool = False
    #: Passes were revoked, and none came after.
    unknown: bool = False
    #: The time when the level `proven` was last reached; None: it does not count any more.
    proven_at: datetime | None = None


def standing(evidence: Iterable[Evidence]) -> Standing:
    """Derive the verdict from the lines, in order.

    A pass at a level is a pass at every shallower one and ends the failures there. A failure at a level revokes
    the passes at that level and deeper; only a new pass restores them.
    """
    passed = failed = -1
    unknown = False
    proven_at: datetime | None = None
    for line in evidence:
        rank = line.level.rank
        if line.revokes:
            passed, unknown, proven_at = -1, True, None
        if line.outcome is Outcome.PASSED:
            passed, unknown = max(passed, rank), False
            failed = -1 if rank >= failed else failed
            proven_at = line.at if line.level is Level.PROVEN else proven_at
        elif line.fails:
            passed = min(passed, rank - 1)
            failed = max(failed, rank)
            proven_at = None
    return Standing(_LEVELS[max(passed, 0)], failed >= 0, unknown, proven_at)


def faulty(evidence: Iterable[Evidence]) -> tuple[str, ...]:
    """Objects of the source that no server accepts, according to the last proof."""
    found: tuple[str, ...] = ()
    for line in evidence:
        is_proof = line.level is Level.PROVEN and line.outcome is Outcome.PASSED
        if not line.accepts and (is_proof or line.objects):
            found = line.objects
    return found


#: The newest format of marks that is read.
_MARKS_FORMAT = 1
#: The largest file of marks that is read, in bytes.
MARKS_BYTES = 64 << 10
MOST_TAGS = 50
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Marks:
    """The pin and the tags of an artifact."""

    pinned: bool = False
    #: The last moment of the pin; None: it does not end.
    until: datetime | None = None
    #: In alphabetical order.
    tags: tuple[str, ...] = ()
    #: Why the file cannot be read; "" if it can, or if there is none.
    unreadable: str = ""

    def pin(self, now: datetime, zone: tzinfo | None = None) -> str:
        """Description of the pin at `now`; "" if not pinned. `zone`: for its time; None: local."""
        if self.unreadable:
            return f"pinned, could not verify: its marks cannot be read: {self.unreadable}"
        if not self.pinned or (self.until and self.until < now):
            return ""
        return f"pinned until {self.until.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if self.until else "pinned"

    def describe(self, now: datetime) -> list[str]:
        """Pin and tags as notes for a list."""
        tags = [f"tagged {', '.join(self.tags)}"] if self.tags else []
        return [one for one in (self.pin(now), *tags) if one]

    def to_json(self) -> dict[str, Any]:
        until = self.until.isoformat() if self.until else None
        wrong = {"unreadable": self.unreadable} if self.unreadable else {}
        return {"pinned": self.pinned or bool(wrong), "until": until, "tags": list(self.tags), **wrong}

    def to_file(self) -> bytes:
        """Content of the file; b"" without marks."""
        if self == Marks():
            return b""
        return (json.dumps({"format": _MARKS_FORMAT, **self.to_json()}) + "\n").encode()

    @classmethod
    def from_file(cls, text: bytes) -> Self:
        """Read the file; ValueError if it is malformed or of a newer RefNet."""
        values = checked.document(text, MARKS_BYTES)
        number = values.get("format")
        if type(number) is int and _MARKS_FORMAT < number < 1_000_000:
            raise ValueError(f"format {number} is not supported; this RefNet reads format {_MARKS_FORMAT}")
        found = _MARKS(values)
        return cls(found["pinned"], found["until"], tuple(sorted(set(found["tags"]))))


def is_tag(text: str) -> bool:
    """Whether `text` is a valid tag: letters, digits, `.`, `_` and `-`, at most 40."""
    return bool(_TAG.fullmatch(text))


_MARKS = checked.record(
    {
        "format": checked.integer(1, _MARKS_FORMAT),
        "pinned": checked.flag,
        "until": checked.or_none(checked.moment),
        "tags": checked.each(checked.text(40, like=_TAG.pattern), MOST_TAGS),
    }
)


#: The most artifacts with marks that travel with a set, and that a recovery keeps.
MOST_MARKED = 5_000


@dataclass(frozen=True)
class MarksOf(Record):
    """The marks of one artifact apart from it: as they travel with a set."""

    LAYOUT = Layout(more=True)

    #: Of the artifact, in hex.
    sha256: Annotated[str, checked.text(64, like="[0-9a-f]{64}")]
    #: Of the artifact, for people.
    name: Annotated[str, checked.text(300)]
    pinned: Rare[bool] = False
    until: Rare[datetime | None] = None
    tags: Rare[
        Annotated[tuple[Annotated[str, checked.text(40, like=_TAG.pattern)], ...], Most(MOST_TAGS)]
    ] = ()

    @classmethod
    def of(cls, sha256: str, name: str, marks: Marks) -> Self:
        """Those of an artifact; unreadable ones count as a pin, as everywhere."""
        return cls(sha256, name, marks.pinned or bool(marks.unreadable), marks.until, marks.tags)

    @property
    def marks(self) -> Marks:
        return Marks(self.pinned, self.until, tuple(sorted(set(self.tags))))


ManyMarks = Annotated[tuple[MarksOf, ...], Most(MOST_MARKED)]


@dataclass(frozen=True)
class RecoveredMarks(Record):
    """The marks that came with a recovered set; most of its artifacts are in a remote store alone."""

    LAYOUT = Layout(longest=16 << 20, format=1)

    marks: ManyMarks = ()
