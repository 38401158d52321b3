"""Evidence: the results of the checks of an artifact, one line each, and what they say together."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from refnet.recovery.model import checked
from refnet.recovery.model.formatting import utf8

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
    #: Whose fault it is that something did not pass; None: nothing, or an older RefNet did not record it.
    fault: Fault | None = None
    #: The objects of the source that are at fault; in a line that accepts: those that are accepted.
    objects: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """The artifact is damaged."""
        return self.outcome is Outcome.FAILED and self.fault in {None, Fault.DAMAGE}

    def to_json(self) -> str:
        values = {**asdict(self), "at": utc(self.at)}
        for rare in ("revokes", "missing_walls", "accepts", "row_digests", "fault", "objects"):
            if not values[rare]:
                del values[rare]
        return utf8(json.dumps(values, ensure_ascii=False)) + "\n"

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read a line of evidence; ValueError if it is malformed (cut short by a crash)."""
        values = read("a line of evidence", checked.document, line)
        return cls(**read("a line of evidence", _EVIDENCE, values))


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
        elif line.fails:
            passed = min(passed, rank - 1)
            failed = max(failed, rank)
            proven_at = None
    return Standing(_LEVELS[max(passed, 0)], failed >= 0, unknown, proven_at)


def faulty(evidence: Iterable[Evidence]) -> tuple[str, ...]:
    """Return the objects of the source that no server accepts, by the last proof."""
    found: tuple[str, ...] = ()
    for line in evidence:
        is_proof = line.level is Level.PROVEN and line.outcome is Outcome.PASSED
        if not line.accepts and (is_proof or line.objects):
            found = line.objects
    return found


WORDS = checked.text(1 << 20, errors="strict")
SENTENCES = checked.each(WORDS, 100_000)


def sentences(value: Any) -> tuple[str, ...]:
    """Check for a list of texts."""
    return tuple(SENTENCES(value))


_EVIDENCE = checked.record(
    {
        "at": checked.moment,
        "level": checked.member(Level),
        "outcome": checked.member(Outcome),
        "seconds": checked.seconds,
    },
    {
        "server": WORDS,
        "reasons": sentences,
        "drill": checked.flag,
        "revokes": checked.flag,
        "missing_walls": sentences,
        "accepts": checked.flag,
        "row_digests": checked.text(MOST_ROW_DIGESTS, like="[0-9a-f]*"),
        "fault": checked.or_none(checked.member(Fault)),
        "objects": sentences,
    },
    more=True,
)


def read(what: str, check: Callable[[Any], dict[str, Any]], value: Any) -> dict[str, Any]:
    """Check `value`; ValueError says why it is not `what`."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"not {what}: {error}") from None


def utc(moment: datetime) -> str:
    """Format a time as manifests and evidence do: ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
