"""The artifacts of one source in one store on a calendar: the best evidence of each day, and the days without any."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import cached_property
from typing import Self

from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring import GRACE
from refnet.catalog.schedule import Retention, When

#: The states of artifacts and copies, from worst to best: that of a day is its best one.
STATES = (
    "damaged", "could not verify", "written", "sent", "intact", "fetched", "restored", "proven",
)  # fmt: skip


class Empty(StrEnum):
    """Why a day has no artifacts."""

    #: The schedule expected one, and none is there.
    MISSED = "missed"
    #: Retention keeps only some artifacts of days so long ago.
    THINNED = "thinned"
    #: None was expected: another day of the week, before the first one, or not over yet.
    NOT_DUE = "not due"


@dataclass(frozen=True)
class Day:
    """One day, in the time zone of the schedule."""

    date: date
    #: Oldest first.
    entries: tuple[Entry, ...] = ()
    #: Why there is none.
    empty: Empty = Empty.NOT_DUE
    today: bool = False

    @cached_property
    def state(self) -> str:
        """Best state of its artifacts, one of STATES; that of `empty` without artifacts."""
        states = [entry.state for entry in self.entries]
        return max(states, key=_rank) if states else self.empty.value

    @property
    def damaged(self) -> int:
        """Number of damaged artifacts."""
        return sum(entry.damaged for entry in self.entries)


@dataclass(frozen=True)
class Month:
    """One month."""

    #: Its first day.
    first: date
    #: Monday to Sunday; None: a day of another month.
    weeks: tuple[tuple[Day | None, ...], ...]

    @property
    def missed(self) -> int:
        """Number of missed days."""
        return sum(day is not None and day.empty is Empty.MISSED for week in self.weeks for day in week)


@dataclass(frozen=True)
class Expected:
    """Which artifacts the settings should produce and keep."""

    #: None: the schedule makes none.
    when: When | None
    #: That of the schedule; None: the machine's.
    zone: tzinfo | None
    #: None: everything is kept.
    retention: Retention | None = None

    def on(self, day: date) -> bool:
        """Whether the schedule has a backup on `day`."""
        when = self.when
        return bool(when and when.weekday in {None, day.isoweekday() % 7} and when.day in {None, day.day})

    def by(self, day: date) -> datetime:
        """Deadline (UTC) of the last backup of `day`, including allowed lateness."""
        hour = self.when.hour if self.when else None
        if hour is None or self.when is None:
            return _moment(day + timedelta(days=1), time(), self.zone)
        return _moment(day, time(hour, self.when.minute), self.zone) + GRACE

    def keeps_all_of(self, day: date, today: date) -> bool:
        """Whether retention keeps an artifact for every day since `day`."""
        kept = self.retention
        return kept is None or today - day < timedelta(days=max(kept.days, kept.daily))


@dataclass(frozen=True)
class Calendar:
    """All artifacts of one source in one store, by day."""

    expected: Expected
    #: Aware.
    now: datetime
    #: Those of a day, oldest first.
    by_day: Mapping[date, tuple[Entry, ...]]

    @classmethod
    def of(cls, entries: Iterable[Entry], expected: Expected, now: datetime) -> Self:
        """Sort the artifacts of one source in one store."""
        return cls(expected, now, by_day(entries, expected.zone))

    @property
    def today(self) -> date:
        return self.now.astimezone(self.expected.zone).date()

    def months(self, last: date, count: int) -> tuple[Month, ...]:
        """The last `count` months, newest first; the first is the month of `last`."""
        return tuple(_month(first, self._day) for first in _firsts(last, count))

    def _day(self, at: date) -> Day:
        today = at == self.today
        if there := self.by_day.get(at):
            return Day(at, there, today=today)
        if not (self._first < at < self.today and self.expected.on(at) and self._is_missed(at)):
            return Day(at, today=today)
        thinned = not self.expected.keeps_all_of(at, self.today)
        return Day(at, empty=Empty.THINNED if thinned else Empty.MISSED)

    def _is_missed(self, at: date) -> bool:
        """Whether the run due at `at` is missed: it neither ran late, after midnight, nor can it still."""
        by, next_day = self.expected.by(at), self.by_day.get(at + timedelta(days=1), ())
        is_daily = self.expected.when is not None and self.expected.when.hour is not None
        return by < self.now and not (is_daily and next_day and next_day[0].created <= by)

    @cached_property
    def _first(self) -> date:
        return min(self.by_day, default=self.today)


def by_day(entries: Iterable[Entry], zone: tzinfo | None) -> dict[date, tuple[Entry, ...]]:
    """Artifacts by day, both oldest first. zone: for the days; None: the machine's."""
    found: dict[date, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.created):
        found.setdefault(entry.created.astimezone(zone).date(), []).append(entry)
    return {day: tuple(there) for day, there in found.items()}


def _firsts(last: date, count: int) -> Iterator[date]:
    first = last.replace(day=1)
    for _ in range(count):
        yield first
        if first <= date(1, 1, 31):
            return
        first = (first - timedelta(days=1)).replace(day=1)


def _month(first: date, day: Callable[[date], Day]) -> Month:
    weeks = calendar.Calendar().monthdayscalendar(first.year, first.month)
    return Month(
        first, tuple(tuple(day(first.replace(day=n)) if n else None for n in week) for week in weeks)
    )


def _moment(day: date, at: time, zone: tzinfo | None) -> datetime:
    naive = datetime.combine(day, at)
    return (naive.replace(tzinfo=zone) if zone else naive.astimezone()).astimezone(UTC)


def _rank(state: str) -> int:
    return STATES.index(state) if state in STATES else -1
