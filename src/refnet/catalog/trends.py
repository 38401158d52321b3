"""Trends over time, with what they warn of: free space and when it ends, sizes, durations, recovery times, nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from refnet.catalog.monitoring import Check, Status
from refnet.catalog.run import Ended, History, RunKind
from refnet.core import formatting

#: How far back the fall of free space is measured, and how long it must have been seen.
PERIOD, LEAST = timedelta(days=30), timedelta(days=2)
#: The monitor warns if the disk is full within this time; a longer forecast than the second says nothing.
SOON, FORECAST = timedelta(days=14), timedelta(days=3650)
#: A value is unusual beyond this multiple of the median of the values before it: at most so many, at least so many.
UNUSUAL, COMPARED = 2.0, (3, 10)
Point = tuple[datetime, int]


def free_space(history: History) -> tuple[Point, ...]:
    """Return the free space in the backup folder, in bytes, after each run that recorded it, oldest first."""
    return tuple(sorted((run.end, run.free) for run in history.runs if run.free is not None))


def full_in(points: Sequence[Point], now: datetime) -> timedelta | None:
    """Return how long until the free space ends at the mean rate of PERIOD; None: it does not fall, or too little is known.

    The line is fitted by least squares. So the jump of a prune counts as far as the nights after it fill the disk again.
    """
    recent = [(at, free) for at, free in points if timedelta() <= now - at <= PERIOD]
    if len(recent) < COMPARED[0] or recent[-1][0] - recent[0][0] < LEAST:
        return None
    x = [(at - now).total_seconds() for at, _ in recent]
    y = [free for _, free in recent]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    slope = sum((one - mean_x) * (other - mean_y) for one, other in zip(x, y, strict=True)) / spread
    if slope >= 0:
        return None
    left = max(y[-1] / -slope + x[-1], 0)  # from now, not from the last point
    return timedelta(seconds=left) if left < FORECAST.total_seconds() else None


def watch_trend(history: History, now: datetime) -> tuple[Check, ...]:
    """Warn if the backup folder is full within SOON, at the rate of the last nights."""
    left = full_in(free_space(history), now)
    if left is None or left > SOON:
        return ()
    says = f"at the rate of the last {PERIOD.days} days the disk is full in {formatting.age(left)}"
    return (Check(None, "disk", Status.WARNING, f"{says}: `refnet prune --plan` shows what can be deleted"),)


def unusual(values: Sequence[float]) -> float | None:
    """Return the usual value (the median before it) if the last of `values` is more than UNUSUAL times as much."""
    before = sorted(values[:-1][-COMPARED[1] :])
    if len(before) < COMPARED[0]:
        return None
    usual = (before[len(before) // 2] + before[~(len(before) // 2)]) / 2
    return usual if values[-1] > usual * UNUSUAL > 0 else None


@dataclass(frozen=True)
class Night:
    """The backups of one day."""

    date: date
    #: Names of the artifacts that were made; runs that failed; the duration of all runs, in seconds.
    artifacts: tuple[str, ...] = ()
    failed: int = 0
    seconds: float = 0.0
    #: Remote store → bytes that were sent.
    sent: Mapping[str, int] = field(default_factory=dict)
    #: Free space after the last run, in bytes; None: not recorded.
    free: int | None = None


def nights(history: History, zone: tzinfo | None, most: int) -> tuple[Night, ...]:
    """Return the last `most` days with backups in `zone` (None: the machine's), newest first."""
    found: dict[date, Night] = {}
    backups = (run for run in history.runs if run.kind is RunKind.BACKUP)
    for run in sorted(backups, key=lambda one: one.end):
        day = run.started.astimezone(zone).date()
        night = found.get(day, Night(day))
        sent = {name: night.sent.get(name, 0) + run.sent.get(name, 0) for name in {*night.sent, *run.sent}}
        made = (*night.artifacts, run.artifact) if run.artifact else night.artifacts
        failed = night.failed + (run.ended is Ended.FAILED)
        free = night.free if run.free is None else run.free
        found[day] = Night(day, made, failed, night.seconds + run.seconds, sent, free)
    return tuple(found[day] for day in sorted(found, reverse=True)[:most])
