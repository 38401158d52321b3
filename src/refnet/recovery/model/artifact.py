"""Sources, artifacts, manifests, evidence, and the names of their files.

Names contain local time, manifests UTC. The manifest publishes an artifact; without it there is none.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from refnet.recovery.model import checked
from refnet.recovery.model.file_names import kind_of_file
from refnet.recovery.model.formatting import utf8
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.marks import Marks
from refnet.recovery.model.source_name import LONGEST, Kind, SourceName, read_name
from refnet.recovery.model.unprotected import Lacks

#: The newest format of manifests that is read. Format 1: an artifact of files, or of a database by an older version. 2: of a
#: database, with content digests in its evidence instead of its index: versions that read format 1 alone refuse it.
FORMAT = 2

MANIFEST_SUFFIX = ".json"
FILES_SUFFIX = ".files.json.gz"
EVIDENCE_SUFFIX = ".evidence.jsonl"
MARKS_SUFFIX = ".marks.json"
HIDDEN_PREFIX = ".refnet-"


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


@dataclass(frozen=True)
class Manifest:
    """The small JSON beside an artifact, written once."""

    source: SourceName
    name: str
    #: The time of the snapshot, by the clock of what was backed up.
    created: datetime
    #: In bytes.
    size: int
    #: In hex.
    sha256: str
    #: The duration of the dump.
    seconds: float
    partial: bool = False
    #: The digest of the list of files, if there is one.
    files_sha256: str | None = None
    unchecked: tuple[str, ...] = ()
    #: Of the source. `database`: server_version, system_identifier, database, tables, rows, raw_bytes. Files: files,
    #: raw_bytes, shares_bytes_with.
    details: dict[str, Any] = field(default_factory=dict)
    made_by: str = ""
    #: The time of publication, by this machine's clock; None: an older RefNet, or adopted.
    published: datetime | None = None
    #: What is much less than in the artifact `shrunk_from`, the last one before it.
    shrunk: tuple[str, ...] = ()
    shrunk_from: str = ""
    format: int = 1

    @property
    def identity(self) -> Identity | None:
        """The database that it was made of, if recorded; None for files."""
        return Identity.read(self.details) if self.source.kind is Kind.DATABASE else None

    def to_json(self) -> str:
        values = asdict(self)
        values["created"] = utc(self.created)
        values["published"] = None if self.published is None else utc(self.published)
        return utf8(json.dumps(values, indent=2, ensure_ascii=False)) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a manifest; ValueError if it is malformed. Unknown keys are dropped."""
        values = _checked("a manifest", checked.document, text)
        if type(number := values.get("format")) is int and FORMAT < number < 1_000_000:
            raise ValueError(f"format {number} is not supported; this RefNet reads formats up to {FORMAT}")
        return cls(**_checked("a manifest", _manifest, values))


@dataclass(frozen=True)
class Evidence:
    """One line of `ARTIFACT.evidence.jsonl`: a check and its result."""

    at: datetime
    #: The level that it reached.
    level: Level
    outcome: Outcome
    #: Its duration.
    seconds: float
    #: The version of the server that it was done with.
    server: str = ""
    reasons: tuple[str, ...] = ()
    drill: bool = False
    #: No earlier pass counts any more: earlier lines, or the bytes that they are about, are lost.
    revokes: bool = False
    #: The isolation layers of the scratch server that this machine could not build.
    missing_walls: tuple[str, ...] = ()
    #: Not a check: a user confirmed that shrinking was intended.
    accepts: bool = False
    #: The content digests of the tables of a proven database, in the order of its index, 32 hex digits each.
    row_digests: str = ""

    def to_json(self) -> str:
        values = {**asdict(self), "at": utc(self.at)}
        for rare in ("revokes", "missing_walls", "accepts", "row_digests"):
            if not values[rare]:
                del values[rare]
        return utf8(json.dumps(values, ensure_ascii=False)) + "\n"

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read a line of evidence; ValueError if it is malformed (cut short by a crash)."""
        values = _checked("a line of evidence", checked.document, line)
        return cls(**_checked("a line of evidence", _EVIDENCE, values))


@dataclass(frozen=True)
class Standing:
    """The result of all lines of evidence."""

    #: The deepest level that still counts.
    level: Level = Level.WRITTEN
    #: A failure still counts.
    damaged: bool = False
    #: Passes were revoked, and none came after.
    unknown: bool = False
    #: The time when the level `proven` was last reached; None: it does not count any more.
    proven_at: datetime | None = None


def standing(evidence: Iterable[Evidence]) -> Standing:
    """Judge the lines in their order.

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
        elif line.outcome is Outcome.FAILED:
            passed = min(passed, rank - 1)
            failed = max(failed, rank)
            proven_at = None
    return Standing(_LEVELS[max(passed, 0)], failed >= 0, unknown, proven_at)


def _file_name(value: Any) -> str:
    name: str = _NAME_TEXT(value)
    if "/" in name or name in (".", ".."):
        raise ValueError("not a file name")
    return name


_NAME_TEXT = checked.text(255, shortest=1, errors="strict")
_WORDS = checked.text(1 << 20, errors="strict")
_SENTENCES = checked.each(_WORDS, 100_000)
_DIGEST = checked.text(64, shortest=64, like="[0-9a-f]*")

_COUNT = checked.integer(0, (1 << 63) - 1)
#: The keys of `details` that RefNet reads; others are only displayed.
_KNOWN_DETAILS: dict[str, checked.Check] = {
    **dict.fromkeys(("files", "folders", "links", "tables", "rows", "raw_bytes"), _COUNT),
    **dict.fromkeys(
        ("database", "server_version", "system_identifier", "folder", "state"), checked.or_none(_WORDS)
    ),
    "settled": checked.flag,
    "unprotected": checked.or_none(
        checked.record({"kind": checked.member(Lacks), "count": _COUNT, "first": _SENTENCES}, {}, more=True)
    ),
    "one_file_system": checked.or_none(checked.flag),
    "excluded": checked.or_none(
        checked.record(dict.fromkeys(("files", "folders", "bytes"), _COUNT), {"rules": _SENTENCES}, more=True)
    ),
    "shares_bytes_with": checked.or_none(_file_name),
}


_ANY_DETAILS = checked.mapping(_WORDS, checked.free, 1000)


def _sentences(value: Any) -> tuple[str, ...]:
    return tuple(_SENTENCES(value))


def _details(value: Any) -> dict[str, Any]:
    details: dict[str, Any] = _ANY_DETAILS(value)
    for name in details.keys() & _KNOWN_DETAILS.keys():
        checked.inside(name, _KNOWN_DETAILS[name], details[name])
    return details


_MANIFEST = checked.record(
    {
        "source": checked.text(LONGEST),
        "name": _file_name,
        "created": checked.moment,
        "size": _COUNT,
        "sha256": _DIGEST,
        "seconds": checked.seconds,
        "format": checked.integer(1, FORMAT),
    },
    {
        "partial": checked.flag,
        "files_sha256": checked.or_none(_DIGEST),
        "unchecked": _sentences,
        "details": _details,
        "made_by": _WORDS,
        "published": checked.or_none(checked.moment),
        "shrunk": _sentences,
        "shrunk_from": _WORDS,
    },
    more=True,
)


def _manifest(value: Any) -> dict[str, Any]:
    values: dict[str, Any] = _MANIFEST(value)
    kind = kind_of_file(values["name"])
    values["source"] = checked.inside("source", lambda name: read_name(name, kind), values["source"])
    return values


_EVIDENCE = checked.record(
    {
        "at": checked.moment,
        "level": checked.member(Level),
        "outcome": checked.member(Outcome),
        "seconds": checked.seconds,
    },
    {
        "server": _WORDS,
        "reasons": _sentences,
        "drill": checked.flag,
        "revokes": checked.flag,
        "missing_walls": _sentences,
        "accepts": checked.flag,
        "row_digests": checked.text(MOST_ROW_DIGESTS, like="[0-9a-f]*"),
    },
    more=True,
)


def _checked(what: str, check: Callable[[Any], dict[str, Any]], value: Any) -> dict[str, Any]:
    """Check `value`; ValueError says why it is not `what`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"not {what}: {error}") from None


@dataclass(frozen=True)
class Entry:
    """An artifact in the catalog: its manifest and what later checks found."""

    manifest: Manifest
    evidence: tuple[Evidence, ...] = ()
    marks: Marks = Marks()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def source(self) -> SourceName:
        return self.manifest.source

    @property
    def created(self) -> datetime:
        return self.manifest.created

    @cached_property
    def made(self) -> datetime:
        """The start of its age: the later of `created` and `published`, as one of the clocks may be wrong."""
        return max(self.created, self.published)

    @property
    def published(self) -> datetime:
        """The time of publication, by this machine's clock if known."""
        return self.manifest.published or self.manifest.created

    @cached_property
    def identity(self) -> Identity | None:
        """The database that it was made of; None: files, or an unknown database."""
        return self.manifest.identity

    @cached_property
    def standing(self) -> Standing:
        """The result of all its evidence."""
        return standing(self.evidence)

    @property
    def damaged(self) -> bool:
        return self.standing.damaged

    @property
    def complete(self) -> bool:
        """It is neither partial nor damaged."""
        return not self.manifest.partial and not self.damaged

    @property
    def level(self) -> Level:
        """The deepest level that still counts; publishing is `written`."""
        return self.standing.level

    @property
    def proven(self) -> bool:
        return self.level is Level.PROVEN and not self.damaged

    @property
    def proven_before(self) -> bool:
        """Its bytes were proven before they were encrypted: only of an artifact in an encrypted backup folder."""
        return False

    @property
    def earlier(self) -> tuple[Evidence, ...]:
        """The evidence that it was made with: only of a copy."""
        return ()

    @property
    def proven_at(self) -> datetime | None:
        """The time when it was last proven (UTC); None if it is not proven any more."""
        return self.standing.proven_at

    @property
    def row_digests(self) -> str:
        """The content digests of its tables that its last proof recorded; "" if it is not proven any more."""
        recorded = (line.row_digests for line in reversed(self.evidence) if line.row_digests)
        return next(recorded, "") if self.proven else ""

    @cached_property
    def shrunk(self) -> bool:
        """It contains much less than the one before it, and that is not accepted."""
        return bool(self.manifest.shrunk) and not any(line.accepts for line in self.evidence)

    @property
    def state(self) -> str:
        """Its state for a display: `damaged`, `could not verify` if its evidence was lost, or the level."""
        if self.damaged:
            return "damaged"
        return Outcome.UNVERIFIED.value if self.standing.unknown else self.level.value


def utc(moment: datetime) -> str:
    """Format a time as manifests and evidence do: ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
