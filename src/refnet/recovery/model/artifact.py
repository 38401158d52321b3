"""The words of a backup: source, artifact, manifest, evidence, and the names of their files.

Names hold local time, manifests UTC. The manifest publishes an artifact; without it there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from refnet.recovery.model import checked
from refnet.recovery.model.formatting import utf8
from refnet.recovery.model.identity import Identity

FORMAT = 1

MANIFEST_SUFFIX = ".json"
FILES_SUFFIX = ".files.json.gz"
EVIDENCE_SUFFIX = ".evidence.jsonl"
PARTIAL_SUFFIX = ".partial"
HIDDEN_PREFIX = ".refnet-"


class SourceName(StrEnum):
    """What is protected, in the order in which one `refnet backup` takes it."""

    DATABASE = "database"
    CONFIG = "config"
    OBSIDIAN = "obsidian"


class Level(StrEnum):
    """How far an artifact is proven; each level includes those before it."""

    WRITTEN = "written"
    INTACT = "intact"
    RESTORED = "restored"
    PROVEN = "proven"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Outcome(StrEnum):
    """What a check found. `could not verify` is never a pass and never a failure."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "could not verify"


@dataclass(frozen=True)
class Manifest:
    """The small JSON beside an artifact, written once.

    `created` is the moment whose state the artifact holds (the snapshot), by the clock of what was backed up;
    `published` when it was written, by this machine's clock (None: an older RefNet, or adopted). `size` is its
    length in bytes, `sha256` the hex digest of its bytes, `seconds` how long the making took. `details` belongs to the
    source: for `database` server_version, system_identifier, database, tables, rows, raw_bytes; for files
    files, raw_bytes, shares_bytes_with. `files_sha256` is the digest of the list of files, where there is one.
    `shrunk` says what is much less than in the artifact `shrunk_from`, the last one before it.
    """

    source: SourceName
    name: str
    created: datetime
    size: int
    sha256: str
    seconds: float
    partial: bool = False
    files_sha256: str | None = None
    unchecked: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    made_by: str = ""
    published: datetime | None = None
    shrunk: tuple[str, ...] = ()
    shrunk_from: str = ""
    format: int = FORMAT

    @property
    def made(self) -> datetime:
        """What its age is counted from: the later of `created` and `published`, as one of the clocks may be wrong."""
        return max(self.created, self.published or self.created)

    @property
    def identity(self) -> Identity | None:
        """Whose data it holds: of a database where that was recorded; files have none."""
        return Identity.read(self.details) if self.source is SourceName.DATABASE else None

    def to_json(self) -> str:
        values = asdict(self)
        values["created"] = utc(self.created)
        values["published"] = None if self.published is None else utc(self.published)
        return utf8(json.dumps(values, indent=2, ensure_ascii=False)) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """The manifest in `text`; ValueError says what is not one in it. Keys that are not known are left out."""
        values = _said("a manifest", checked.document, text)
        if type(number := values.get("format")) is int and FORMAT < number < 1_000_000:
            raise ValueError(f"format {number} is not the format {FORMAT} that this RefNet reads")
        values = _said("a manifest", _MANIFEST, values)
        lists = {name: tuple(values.get(name, ())) for name in ("unchecked", "shrunk")}
        return cls(**values | lists)


@dataclass(frozen=True)
class Evidence:
    """One line of `ARTIFACT.evidence.jsonl`: a check, what it reached, when, how long (s), with which server.

    `revokes`: no pass before this line counts any more, as what stood here, or what it was about, is lost.
    `missing_walls`: which of the walls around the scratch server this machine could not build.
    `accepts`: no check, but a person's word that what shrank was meant to.
    """

    at: datetime
    level: Level
    outcome: Outcome
    seconds: float
    server: str = ""
    reasons: tuple[str, ...] = ()
    drill: bool = False
    revokes: bool = False
    missing_walls: tuple[str, ...] = ()
    accepts: bool = False

    def to_json(self) -> str:
        values = {**asdict(self), "at": utc(self.at)}
        for rare in ("revokes", "missing_walls", "accepts"):
            if not values[rare]:
                del values[rare]
        return utf8(json.dumps(values, ensure_ascii=False)) + "\n"

    @classmethod
    def from_json(cls, line: str | bytes) -> Evidence:
        """The evidence in `line`; ValueError where it is none (a line cut short by a crash)."""
        values = _said("a line of evidence", checked.document, line)
        values = _said("a line of evidence", _EVIDENCE, values)
        sentences = {name: tuple(values.get(name, ())) for name in ("reasons", "missing_walls")}
        return cls(**values | sentences)


@dataclass(frozen=True)
class Standing:
    """What all lines of evidence together say.

    `level` is the deepest level that still counts, `damaged` whether a failure still stands, `unknown` whether
    passes were revoked and none came after, `proven_at` when the level `proven` was last reached, None where it
    does not count any more.
    """

    level: Level = Level.WRITTEN
    damaged: bool = False
    unknown: bool = False
    proven_at: datetime | None = None


def standing(evidence: Iterable[Evidence]) -> Standing:
    """Judge the lines in their order.

    A pass at a level is a pass at every shallower one and ends the failures there. A failure at a level revokes
    the passes at that level and deeper, for good: only a new pass reaches them again.
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
    return Standing(list(Level)[max(passed, 0)], failed >= 0, unknown, proven_at)


def _file_name(value: Any) -> str:
    name: str = _NAME_TEXT(value)
    if "/" in name or name in (".", ".."):
        raise ValueError("no name of a file")
    return name


_NAME_TEXT = checked.text(255, shortest=1, errors="strict")
_WORDS = checked.text(1 << 20, errors="strict")
_SENTENCES = checked.each(_WORDS, 100_000)
_DIGEST = checked.text(64, shortest=64, like="[0-9a-f]*")

_COUNT = checked.whole(0, (1 << 63) - 1)
#: What RefNet itself reads of `details`; whatever else is there is shown.
_KNOWN_DETAILS: dict[str, checked.Check] = {
    **dict.fromkeys(("files", "folders", "links", "tables", "rows", "raw_bytes"), _COUNT),
    **dict.fromkeys(
        ("database", "server_version", "system_identifier", "folder", "state"), checked.or_none(_WORDS)
    ),
    "settled": checked.flag,
    "shares_bytes_with": checked.or_none(_file_name),
}


def _details(value: Any) -> dict[str, Any]:
    details: dict[str, Any] = checked.mapping(_WORDS, checked.free, 1000)(value)
    for name in details.keys() & _KNOWN_DETAILS.keys():
        checked.inside(name, _KNOWN_DETAILS[name], details[name])
    return details


_MANIFEST = checked.record(
    {
        "source": checked.member(SourceName),
        "name": _file_name,
        "created": checked.moment,
        "size": _COUNT,
        "sha256": _DIGEST,
        "seconds": checked.seconds,
        "partial": checked.flag,
        "files_sha256": checked.or_none(_DIGEST),
        "unchecked": _SENTENCES,
        "details": _details,
        "made_by": _WORDS,
        "published": checked.or_none(checked.moment),
        "shrunk": _SENTENCES,
        "shrunk_from": _WORDS,
        "format": checked.whole(FORMAT, FORMAT),
    },
    may_lack=(
        "partial",
        "files_sha256",
        "unchecked",
        "details",
        "made_by",
        "published",
        "shrunk",
        "shrunk_from",
    ),
    more=True,
)


_EVIDENCE = checked.record(
    {
        "at": checked.moment,
        "level": checked.member(Level),
        "outcome": checked.member(Outcome),
        "seconds": checked.seconds,
        "server": _WORDS,
        "reasons": _SENTENCES,
        "drill": checked.flag,
        "revokes": checked.flag,
        "missing_walls": _SENTENCES,
        "accepts": checked.flag,
    },
    may_lack=("server", "reasons", "drill", "revokes", "missing_walls", "accepts"),
    more=True,
)


def _said(what: str, check: Callable[[Any], dict[str, Any]], value: Any) -> dict[str, Any]:
    """`value` checked; ValueError says why it is not `what`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"not {what}: {error}") from None


@dataclass(frozen=True)
class Entry:
    """An artifact in the catalog: its manifest and what later checks found."""

    manifest: Manifest
    evidence: tuple[Evidence, ...] = ()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def source(self) -> SourceName:
        return self.manifest.source

    @property
    def created(self) -> datetime:
        return self.manifest.created

    @property
    def made(self) -> datetime:
        """What its age is counted from."""
        return self.manifest.made

    @property
    def published(self) -> datetime:
        """When it was written, by this machine's clock as far as that is known."""
        return self.manifest.published or self.manifest.created

    @cached_property
    def identity(self) -> Identity | None:
        """Whose data it holds; None: of files, or of a database that nobody recorded."""
        return self.manifest.identity

    @cached_property
    def standing(self) -> Standing:
        """What all its evidence together says."""
        return standing(self.evidence)

    @property
    def damaged(self) -> bool:
        return self.standing.damaged

    @property
    def level(self) -> Level:
        """The deepest level that still counts; publishing itself is `written`."""
        return self.standing.level

    @property
    def proven(self) -> bool:
        return self.level is Level.PROVEN and not self.damaged

    @property
    def proven_at(self) -> datetime | None:
        """When the artifact was last proven (UTC); None where it is not proven any more."""
        return self.standing.proven_at

    @cached_property
    def shrunk(self) -> bool:
        """Whether it holds much less than the one before it, and nobody has accepted that."""
        return bool(self.manifest.shrunk) and not any(line.accepts for line in self.evidence)

    @property
    def state(self) -> str:
        """What a display shows: `damaged`, `could not verify` where its evidence was lost, or the level."""
        if self.damaged:
            return "damaged"
        return Outcome.UNVERIFIED.value if self.standing.unknown else self.level.value


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, as manifests and evidence carry it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def artifact_names(source: SourceName, local: datetime, *, partial: bool = False) -> list[str]:
    """The names to try for an artifact of the local time `local`, best first; a taken one is never overwritten."""
    day, clock = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    if source is SourceName.DATABASE:
        stem, end, first = "refnet", ".sql.gz", f"refnet_{day}_{clock}"
        if partial:
            first, end = f"{first}_tables", f".sql.gz{PARTIAL_SUFFIX}"
        stems = [first]
    else:
        stem, end = ("config" if source is SourceName.CONFIG else "vault"), ".tar.gz"
        stems = [f"{stem}_{day}", f"{stem}_{day}_{clock}"]
    stems += [f"{stems[-1]}_{number}" for number in range(2, 100)]
    return [f"{one}{end}" for one in stems]


_NAME = re.compile(
    r"(?P<stem>refnet|config|vault)_(?P<day>\d{8})(?:_(?P<clock>\d{6}))?(?P<tables>_tables)?(?:_\d+)?"
    r"(?:\.sql\.gz|\.tar\.gz)(?:\.partial)?"
)
_STEMS = {"refnet": SourceName.DATABASE, "config": SourceName.CONFIG, "vault": SourceName.OBSIDIAN}


def read_name(name: str) -> tuple[SourceName, datetime] | None:
    """The source and the naive local time that an artifact's name says, or None where it is no such name."""
    match = _NAME.fullmatch(name)
    if not match:
        return None
    day, clock = match["day"], match["clock"] or "000000"
    try:  # not strptime: a catalog of 10,000 is read before a scrape times out
        moment = datetime(  # noqa: DTZ001
            int(day[:4]), int(day[4:6]), int(day[6:]), int(clock[:2]), int(clock[2:4]), int(clock[4:])
        )
    except ValueError:
        return None
    return _STEMS[match["stem"]], moment
