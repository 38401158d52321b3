"""A run: one backup or drill of one source, that began and ended, or was lost with its process.

A failed backup leaves no artifact, so the catalog cannot tell of it; the journal of runs does. Here is what a
run is, and what a journal adds up to.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from refnet.errors import Exit, RefnetError
from refnet.recovery.model import checked
from refnet.recovery.model.artifact import SourceName, utc
from refnet.recovery.model.formatting import utf8


class Kind(StrEnum):
    """What is done to a source by itself, and noticed where it does not happen."""

    BACKUP = "backup"
    DRILL = "drill"


class Reason(StrEnum):
    """Why a run failed, in few enough words to be a label."""

    NO_SPACE = "no_space"
    NOT_ALLOWED = "not_allowed"
    NOT_THERE = "not_there"
    SERVER = "server"
    SETTINGS = "settings"
    LOCKED = "locked"
    DAMAGED = "damaged"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    OTHER = "other"


class Ended(StrEnum):
    """How a run ended. One that was lost with its process failed; `could not verify` is neither."""

    DONE = "done"
    FAILED = "failed"
    UNVERIFIED = "could not verify"


#: Upper bounds of the histogram of durations, in seconds.
BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
#: A message is cut to this many characters; a journal is for reasons, not for logs.
_LONGEST = 500


@dataclass(frozen=True)
class Run:
    """A run. `ended` None: it is still at work. `seconds`: how long it took, its proof included."""

    id: str
    kind: Kind
    source: SourceName
    started: datetime
    ended: Ended | None = None
    seconds: float = 0.0
    reason: Reason | None = None
    message: str = ""
    hint: str = ""
    artifact: str = ""

    def to_json(self) -> str:
        values = asdict(self) | {"started": utc(self.started)}
        values |= {"message": self.message[:_LONGEST], "hint": self.hint[:_LONGEST]}
        return utf8(json.dumps(values, ensure_ascii=False))

    @classmethod
    def from_json(cls, line: str | bytes) -> Run:
        """The run in `line`; ValueError where it is none (a line cut short by a crash)."""
        return cls(**_RUN(checked.document(line)))


_WORDS = checked.text(100_000, errors="strict")
_RUN = checked.record(
    {
        "id": checked.text(64, like="[0-9A-Za-z_-]+"),  # it names a file
        "kind": checked.member(Kind),
        "source": checked.member(SourceName),
        "started": checked.moment,
        "ended": checked.or_none(checked.member(Ended)),
        "seconds": checked.seconds,
        "reason": checked.or_none(checked.member(Reason)),
        "message": _WORDS,
        "hint": _WORDS,
        "artifact": _WORDS,
    },
    may_lack=("ended", "seconds", "reason", "message", "hint", "artifact"),
    more=True,
)


@dataclass(frozen=True)
class Totals:
    """What all runs add up to, those included that the journal no longer holds one by one.

    `failures`: (kind, source, reason) → count. `durations`: source → seconds of backups that were done, as
    counts a bucket (the last one: above all bounds) and their sum.
    """

    failures: dict[tuple[Kind, SourceName, Reason], int] = field(default_factory=dict)
    buckets: dict[SourceName, tuple[int, ...]] = field(default_factory=dict)
    sums: dict[SourceName, float] = field(default_factory=dict)

    def with_runs(self, runs: Iterable[Run]) -> Totals:
        """These totals and `runs` added to them."""
        failures, buckets, sums = dict(self.failures), dict(self.buckets), dict(self.sums)
        for run in runs:
            if run.ended is Ended.FAILED:
                key = (run.kind, run.source, run.reason or Reason.OTHER)
                failures[key] = failures.get(key, 0) + 1
            elif run.ended is Ended.DONE and run.kind is Kind.BACKUP:
                counts = list(buckets.get(run.source, (0,) * (len(BUCKETS) + 1)))
                counts[sum(bound < run.seconds for bound in BUCKETS)] += 1
                buckets[run.source] = tuple(counts)
                sums[run.source] = sums.get(run.source, 0.0) + run.seconds
        return Totals(failures, buckets, sums)

    def to_json(self) -> str:
        return json.dumps(
            {
                "totals": {
                    "failures": [[*key, count] for key, count in self.failures.items()],
                    "bounds": BUCKETS,
                    "buckets": self.buckets,
                    "sums": self.sums,
                }
            }
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> Totals:
        """The totals in `line`; ValueError where it holds none, or of other bounds than ours."""
        values = _TOTALS(checked.document(line))["totals"]
        return cls(
            {tuple(key): count for *key, count in values["failures"]}, values["buckets"], values["sums"]
        )


def _bounds(value: Any) -> Any:
    if value != list(BUCKETS):
        raise ValueError("totals of other bounds")
    return value


def _counts(value: Any) -> tuple[int, ...]:
    counts = checked.each(_COUNT, len(BUCKETS) + 1)(value)
    if len(counts) != len(BUCKETS) + 1:
        raise ValueError(f"no list of {len(BUCKETS) + 1}")
    return tuple(counts)


_COUNT = checked.whole(0, 1 << 63)
_SOURCE = checked.member(SourceName)
_TOTALS = checked.record(
    {
        "totals": checked.record(
            {
                "failures": checked.each(
                    checked.row(checked.member(Kind), _SOURCE, checked.member(Reason), _COUNT), 1000
                ),
                "bounds": _bounds,
                "buckets": checked.mapping(_SOURCE, _counts, 100),
                "sums": checked.mapping(_SOURCE, checked.seconds, 100),
            },
            more=True,
        )
    },
    more=True,
)


@dataclass(frozen=True)
class History:
    """What a journal tells: the last runs of each kind and source in the order in which they ended, those at
    work, and the totals of all."""

    runs: tuple[Run, ...] = ()
    at_work: tuple[Run, ...] = ()
    totals: Totals = field(default_factory=Totals)

    def last(self, kind: Kind, source: SourceName) -> Run | None:
        """The last run that ended; one that only met another run's lock says nothing."""
        ended = (r for r in reversed(self.runs) if r.kind is kind and r.source is source)
        return next((run for run in ended if run.reason is not Reason.LOCKED), None)

    def made(self, source: SourceName) -> str | None:
        """What tells that an artifact of `source` was made once; None where nothing does."""
        done = [r for r in self.runs if r.kind is Kind.BACKUP and r.source is source and r.artifact]
        if done:
            return f"the last one was {done[-1].artifact}"
        count = sum(self.totals.buckets.get(source, ()))
        return f"{count} had been made before" if count else None

    def failing_since(self, kind: Kind, source: SourceName) -> Run | None:
        """The first of the failures since the last run that did not fail, or None where the last did not."""
        first = None
        for run in reversed(self.runs):
            if run.kind is kind and run.source is source and run.reason is not Reason.LOCKED:
                if run.ended is not Ended.FAILED:
                    break
                first = run
        return first


_BY_CODE = {
    Exit.USAGE: Reason.SETTINGS,
    Exit.LOCKED: Reason.LOCKED,
    Exit.DAMAGED: Reason.DAMAGED,
}
_BY_NUMBER = {
    errno.ENOSPC: Reason.NO_SPACE,
    errno.EDQUOT: Reason.NO_SPACE,
    errno.EFBIG: Reason.NO_SPACE,
    errno.EACCES: Reason.NOT_ALLOWED,
    errno.EPERM: Reason.NOT_ALLOWED,
    errno.EROFS: Reason.NOT_ALLOWED,
    errno.ENOENT: Reason.NOT_THERE,
    errno.ENOTDIR: Reason.NOT_THERE,
    errno.ESTALE: Reason.NOT_THERE,
}
#: Whose errors are the server's; by name, as nothing pure may import them.
_SERVER = ("psycopg", "refnet.postgres")


def reason_of(error: BaseException) -> Reason:
    """Why a run failed that raised `error`: by its code, else by what the system or the server had said."""
    if isinstance(error, KeyboardInterrupt):
        return Reason.INTERRUPTED
    if isinstance(error, RefnetError) and error.code in _BY_CODE:
        return _BY_CODE[error.code]
    cause: BaseException | None = error
    while cause is not None:
        if "no space left" in str(cause).lower():
            return Reason.NO_SPACE
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno]
        if type(cause).__module__.startswith(_SERVER):
            return Reason.SERVER
        cause = cause.__cause__ or cause.__context__
    return Reason.OTHER
