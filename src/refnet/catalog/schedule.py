"""The times of the settings: when each task runs, for Celery, systemd, the monitor and the metrics; how long artifacts stay.

A time is written as `hourly :45`, `daily 02:00`, `sunday 03:00` or `monthly 1 05:00`; all are in one time zone. `off`
switches a task off.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from refnet.catalog.source_name import Kind, SourceName

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
ZONE_KEY = "schedule.timezone"


@dataclass(frozen=True)
class When:
    """A recurring local time."""

    minute: int
    #: None: every hour.
    hour: int | None = None
    #: Sunday = 0, as in crontab.
    weekday: int | None = None
    #: Day of the month, 1 to 28.
    day: int | None = None

    def __str__(self) -> str:
        if self.hour is None:
            return f"hourly :{self.minute:02}"
        if self.weekday is not None:
            return f"{WEEKDAYS[self.weekday]} {self.hour:02}:{self.minute:02}"
        often = "daily" if self.day is None else f"monthly {self.day}"
        return f"{often} {self.hour:02}:{self.minute:02}"

    @property
    def interval(self) -> timedelta:
        """Longest time between two runs, ignoring clock changes."""
        if self.hour is None:
            return timedelta(hours=1)
        if self.weekday is not None:
            return timedelta(weeks=1)
        return timedelta(days=1 if self.day is None else 31)

    def crontab(self) -> dict[str, int]:
        """Arguments for Celery's `crontab`; omitted fields are `*`."""
        values = {
            "minute": self.minute,
            "hour": self.hour,
            "day_of_week": self.weekday,
            "day_of_month": self.day,
        }
        return {name: value for name, value in values.items() if value is not None}

    def on_calendar(self, zone: ZoneInfo | None) -> str:
        """Value of systemd's OnCalendar=; `zone` None: the machine's."""
        weekday = "" if self.weekday is None else f"{WEEKDAYS[self.weekday][:3].capitalize()} "
        day = "*" if self.day is None else f"{self.day:02}"
        hour = "*" if self.hour is None else f"{self.hour:02}"
        where = f" {zone.key}" if zone else ""
        return f"{weekday}*-*-{day} {hour}:{self.minute:02}:00{where}"

    def next_due(self, now: datetime, zone: ZoneInfo | None) -> datetime:
        """Return the first run after `now` (aware), in UTC; `zone` None: the machine's.

        A time skipped by a clock change is due later, by as much as the clock jumps.
        """
        local = now.astimezone(zone)
        if self.hour is None:
            first = local.replace(minute=self.minute, second=0, microsecond=0).astimezone(UTC)
            return first if first > now else first + timedelta(hours=1)
        at = time(self.hour, self.minute)
        for ahead in range(33):
            day = local.date() + timedelta(days=ahead)
            if self.weekday not in {None, day.isoweekday() % 7} or self.day not in {None, day.day}:
                continue
            naive = datetime.combine(day, at)
            due = (naive.replace(tzinfo=zone) if zone else naive.astimezone()).astimezone(UTC)
            if due > now:
                return due
        raise AssertionError(self)


class TaskName(StrEnum):
    """A scheduled task; the setting `schedule.NAME` is its time."""

    OBSIDIAN = "obsidian"
    DATABASE = "database"
    CONFIG = "config"
    PRUNE = "prune"
    DRILL = "drill"
    MONITOR = "monitor"
    UPDATE = "update"

    @property
    def key(self) -> str:
        return f"schedule.{self.value}"


@dataclass(frozen=True)
class Schedule:
    """Scheduled times of all tasks and sources. See `runs` for the tasks that back up the sources."""

    #: Those that are on.
    times: Mapping[str, When]
    #: None: the machine's time zone.
    zone: ZoneInfo | None = None
    #: The tasks that are off.
    off: tuple[str, ...] = ()
    #: Each source of a cluster → the cluster, which is one task.
    clusters: Mapping[str, str] = field(default_factory=dict)

    def runs(self, configured: Collection[SourceName]) -> dict[str, tuple[str, ...]]:
        """Backup tasks for `configured` → their sources.

        Databases scheduled for the same time share a task, named after the first, so that their snapshots are close
        together; so do folders with tables. Each cluster has its own task, which finds the databases when it runs.
        """
        kinds = {str(one): one.kind for one in configured}
        found: dict[str, tuple[str, ...]] = {}
        first: dict[tuple[Kind, When], str] = {}
        for name, when in self.times.items():
            if name in self.clusters.values() or name in {TaskName.CONFIG, TaskName.OBSIDIAN} & kinds.keys():
                found[name] = (name,)
            elif name in kinds and name not in self.clusters:
                task = first.setdefault((kinds[name], when), name)
                found[task] = (*found.get(task, ()), name)
        return found

    def next_due(self, task: str, now: datetime) -> datetime | None:
        """Return the first run of `task` after `now` (aware), in UTC; None: the task is off."""
        when = self.times.get(task)
        return when.next_due(now, self.zone) if when else None

    def interval(self, task: str) -> timedelta | None:
        """Longest time between two runs of `task`; None: off."""
        when = self.times.get(task)
        return when.interval if when else None


@dataclass(frozen=True)
class Retention:
    """The retention of a source's artifacts."""

    #: Each artifact is kept for so many days.
    days: int
    #: Of the newest days with an artifact, one is kept for each.
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    #: The newest artifacts that are kept at any age.
    keep_last: int = 0

    def __str__(self) -> str:
        found = {word: getattr(self, name) for word, name in PERIODS.items()}
        return " ".join(f"{word}={number}" for word, number in found.items() if number)


#: A word of the setting → its field.
PERIODS = {f.name.replace("_", "-"): f.name for f in fields(Retention)}
