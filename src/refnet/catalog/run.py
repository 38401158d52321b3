"""A run: one backup, check, copy, restore or deletion, or a crawl; at work, ended, or lost with its process.

A failed backup leaves no artifact, so the journal of runs records it, not the catalog.
"""

import errno
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Annotated, Any, Self

from refnet.catalog.source_name import LONGEST, wrong_name
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.records import Layout, Rare, Record


class RunKind(StrEnum):
    """What a run does: the command that does it."""

    BACKUP = "backup"
    DRILL = "drill"
    VERIFY = "verify"
    COPY = "copy"
    FETCH = "fetch"
    RESTORE = "restore"
    UNDO = "undo"
    RECOVER = "recover"
    PRUNE = "prune"
    CRAWL = "crawl"


#: The runs that the monitor expects, and that metrics, pings and messages report.
EXPECTED = (RunKind.BACKUP, RunKind.DRILL)


class Origin(StrEnum):
    """What started a run."""

    COMMAND_LINE = "command line"
    SCHEDULER = "scheduler"
    BROWSER = "browser"


class Reason(StrEnum):
    """The reason of a failed run; a label of metrics."""

    NO_SPACE = "no_space"
    NOT_ALLOWED = "not_allowed"
    NOT_THERE = "not_there"
    SERVER = "server"
    SETTINGS = "settings"
    LOCKED = "locked"
    DAMAGED = "damaged"
    #: The artifact was made, and is missing in a remote store.
    COPY = "copy"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    OTHER = "other"


class Ended(StrEnum):
    """The outcome of a run. A run lost with its process failed; the last two are neither success nor failure."""

    DONE = "done"
    FAILED = "failed"
    UNVERIFIED = "could not verify"
    #: Somebody ended it: by Ctrl-C, a signal, or in the browser.
    STOPPED = "stopped"


#: Upper bounds of the histogram of durations, in seconds.
BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
#: In seconds: about a year.
_LONGEST_RUN = 3e7
#: Messages are cut to this many characters.
_LONGEST = 500
_SOURCE = checked.text(LONGEST)


def _source(value: Any) -> str:
    name: str = _SOURCE(value)
    if wrong := wrong_name(name):
        raise ValueError(wrong)
    return name


def _source_or_all(value: Any) -> str:
    return "" if value == "" else _source(value)


_STORE, _BYTES = checked.text(LONGEST, errors="strict"), checked.integer(0, 1 << 63)
_Bytes = Annotated[int, _BYTES]
_Words = Annotated[str, checked.text(100_000, errors="strict")]


@dataclass(frozen=True)
class Run(Record):
    """One line of the journal."""

    LAYOUT = Layout(more=True, ascii=False, end="")

    id: Annotated[str, checked.text(64, like="[0-9A-Za-z_-]+")]  # it names a file
    kind: RunKind
    #: Its name alone: a later source of that name may be of another kind. "": all of them, or none.
    source: Annotated[str, _source_or_all]
    started: datetime
    #: None: the run is at work.
    ended: Ended | None = None
    #: Its duration, the proof included.
    seconds: Annotated[float, checked.seconds] = 0.0
    reason: Reason | None = None
    message: _Words = ""
    hint: _Words = ""
    artifact: _Words = ""
    #: None: recorded by a RefNet that did not record it.
    by: Rare[Origin | None] = None
    #: The user of the command line; "": unknown, or another origin.
    user: Rare[_Words] = ""
    #: The child of the dashboard that it belongs to; "": none.
    child: Rare[Annotated[str, checked.text(64)]] = ""
    #: Free space in the backup folder when it ended, in bytes; None: unknown.
    free: Rare[_Bytes | None] = None
    #: Name of a remote store → the bytes that the run sent there.
    sent: Rare[Annotated[Mapping[str, int], checked.mapping(_STORE, _BYTES, 100)]] = field(
        default_factory=dict
    )

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read a stopped run of an earlier RefNet, which recorded it as failed; ValueError for a backup of no source."""
        if values["kind"] in EXPECTED and not values["source"]:
            raise ValueError(f"a {values['kind']} without a source")
        if values.get("reason") is Reason.INTERRUPTED and values.get("ended") is Ended.FAILED:
            said = values.get("message", "")
            return values | {
                "ended": Ended.STOPPED,
                "message": "stopped" if said == "KeyboardInterrupt" else said,
            }
        return values

    @property
    def state(self) -> str:
        """Its outcome, `running` or `lost`."""
        return "lost" if self.reason is Reason.LOST else self.ended or "running"

    @property
    def end(self) -> datetime:
        return self.started + timedelta(seconds=min(self.seconds, _LONGEST_RUN))

    def values(self) -> dict[str, Any]:
        return super().values() | {"message": self.message[:_LONGEST], "hint": self.hint[:_LONGEST]}


#: Of which the totals are kept; more than any settings name, as sources come and go.
MOST_SOURCES = 500


@dataclass(frozen=True)
class Totals:
    """Totals of all runs, including those that the journal no longer lists."""

    failures: dict[tuple[RunKind, str, Reason], int] = field(default_factory=dict)
    #: Counts of successful backups by duration: one per bound of BUCKETS, and one above all of them.
    buckets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    #: Seconds of all successful backups.
    sums: dict[str, float] = field(default_factory=dict)

    def with_runs(self, runs: Iterable[Run]) -> Self:
        """Return these totals with `runs` added."""
        failures, buckets, sums = dict(self.failures), dict(self.buckets), dict(self.sums)
        for run in runs:
            if not run.source or run.kind not in EXPECTED:
                continue
            if run.ended is Ended.FAILED:
                key = (run.kind, run.source, run.reason or Reason.OTHER)
                failures[key] = failures.get(key, 0) + 1
            elif run.ended is Ended.DONE and run.kind is RunKind.BACKUP:
                counts = list(buckets.get(run.source, (0,) * (len(BUCKETS) + 1)))
                counts[sum(bound < run.seconds for bound in BUCKETS)] += 1
                buckets[run.source] = tuple(counts)
                sums[run.source] = sums.get(run.source, 0.0) + run.seconds
        return type(self)(failures, buckets, sums)

    def to_json(self) -> str:
        failures = [[*key, count] for key, count in self.failures.items()]
        totals = {"failures": failures, "bounds": BUCKETS, "buckets": self.buckets, "sums": self.sums}
        return json.dumps({"totals": totals})

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read totals; ValueError if `line` is malformed or has other bounds."""
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
        raise ValueError(f"not {len(BUCKETS) + 1} counts")
    return tuple(counts)


_COUNT = checked.integer(0, 1 << 63)
_TOTALS = checked.record(
    {
        "totals": checked.record(
            {
                "failures": checked.each(
                    checked.row(checked.member(RunKind), _source, checked.member(Reason), _COUNT), 10_000
                ),
                "bounds": _bounds,
                "buckets": checked.mapping(_source, _counts, MOST_SOURCES),
                "sums": checked.mapping(_source, checked.seconds, MOST_SOURCES),
            },
            more=True,
        )
    },
    more=True,
)


@dataclass(frozen=True)
class History:
    """The content of a journal."""

    #: The last runs of each kind and source, in the order in which they ended.
    runs: tuple[Run, ...] = ()
    at_work: tuple[Run, ...] = ()
    totals: Totals = field(default_factory=Totals)

    def last(self, kind: RunKind, source: str) -> Run | None:
        """The last finished run; runs refused by a lock, and stopped ones, do not count."""
        return next(self._latest(kind, source), None)

    def stopped(self, source: str) -> str:
        """The message of the last backup of `source`, if somebody stopped it; "" if it ended by itself."""
        backups = (r for r in reversed(self.runs) if r.kind is RunKind.BACKUP and r.source == source)
        last = next((run for run in backups if run.reason is not Reason.LOCKED), None)
        return last.message if last and last.ended is Ended.STOPPED else ""

    def made(self, source: str) -> str | None:
        """Sentence about earlier artifacts of `source`, or None."""
        done = [r for r in self.runs if r.kind is RunKind.BACKUP and r.source == source and r.artifact]
        if done:
            return f"the last one was {done[-1].artifact}"
        count = sum(self.totals.buckets.get(source, ()))
        return f"{count} {'was' if count == 1 else 'were'} made earlier" if count else None

    def failing_since(self, kind: RunKind, source: str) -> Run | None:
        """First failure since the last success; None unless the last run failed."""
        failures = takewhile(lambda run: run.ended is Ended.FAILED, self._latest(kind, source))
        return next(iter(deque(failures, maxlen=1)), None)

    def _latest(self, kind: RunKind, source: str) -> Iterator[Run]:
        of_source = (run for run in reversed(self.runs) if run.kind is kind and run.source == source)
        return (r for r in of_source if r.reason is not Reason.LOCKED and r.ended is not Ended.STOPPED)


_BY_CODE = {Exit.USAGE: Reason.SETTINGS, Exit.LOCKED: Reason.LOCKED, Exit.DAMAGED: Reason.DAMAGED}
_BY_NUMBER = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), Reason.NO_SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), Reason.NOT_ALLOWED),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), Reason.NOT_THERE),
}
#: Modules whose errors are the server's; by name, as the pure model may not import them.
_SERVER = ("psycopg", "refnet.postgres")


def reason_of(error: BaseException) -> Reason:
    """Reason for `error`: from its exit code, else from the first system or server error among its causes."""
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
