"""The schedule of all tasks, for Celery, systemd, the monitor and the metrics.

A time is written as `hourly :45`, `daily 02:00`, `sunday 03:00` or `monthly 1 05:00`; all are in one time zone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from refnet.errors import Exit, RefnetError
from refnet.settings import Settings

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
ZONE_KEY = "schedule.timezone"
_HINT = "Write `hourly :45`, `daily 02:00`, `sunday 03:00` or `monthly 1 05:00` (day 1 to 28)."
#: Names of the tz database have at most four parts.
_ZONE = re.compile(r"[\w+-]{1,64}(?:/[\w+-]{1,64}){0,3}", re.ASCII)
_TIME = re.compile(r"(?P<word>[a-z]+)(?: +(?P<day>\d{1,2}))? +(?:(?P<hour>\d{1,2}))?:(?P<minute>\d\d)")


class TaskName(StrEnum):
    """A scheduled task; the setting `schedule.NAME` is its time."""

    OBSIDIAN = "obsidian"
    DATABASE = "database"
    CONFIG = "config"
    PRUNE = "prune"
    DRILL = "drill"
    MONITOR = "monitor"

    @property
    def key(self) -> str:
        return f"schedule.{self.value}"


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
        """The longest time between two runs, clock changes aside."""
        if self.hour is None:
            return timedelta(hours=1)
        if self.weekday is not None:
            return timedelta(weeks=1)
        return timedelta(days=1 if self.day is None else 31)

    def crontab(self) -> dict[str, int]:
        """Return the fields of a crontab line that are not `*`, by the names of Celery's `crontab`."""
        fields = {
            "minute": self.minute,
            "hour": self.hour,
            "day_of_week": self.weekday,
            "day_of_month": self.day,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def on_calendar(self, zone: ZoneInfo | None) -> str:
        """Return the value of systemd's OnCalendar=; `zone` None: the machine's."""
        weekday = "" if self.weekday is None else f"{WEEKDAYS[self.weekday][:3].capitalize()} "
        day = "*" if self.day is None else f"{self.day:02}"
        hour = "*" if self.hour is None else f"{self.hour:02}"
        where = f" {zone.key}" if zone else ""
        return f"{weekday}*-*-{day} {hour}:{self.minute:02}:00{where}"

    def next_due(self, now: datetime, zone: ZoneInfo | None) -> datetime:
        """Return the first run after `now` (aware), in UTC; `zone` None: the machine's.

        A time that a clock change skips is due as much later as the clock jumps.
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


@dataclass(frozen=True)
class Schedule:
    """The times of all tasks."""

    times: Mapping[TaskName, When]
    #: None: the machine's time zone.
    zone: ZoneInfo | None = None

    @classmethod
    def of(cls, settings: Settings) -> Schedule:
        """Return the schedule of `settings`; RefnetError names an invalid key."""
        texts = {name: str(getattr(settings, f"schedule_{name}")) for name in TaskName}
        zone = settings.schedule_timezone
        return cls(
            {name: parse(text, name.key) for name, text in texts.items()}, zone_named(zone) if zone else None
        )

    def next_due(self, task: TaskName, now: datetime) -> datetime:
        """Return the first run of `task` after `now` (aware), in UTC."""
        return self.times[task].next_due(now, self.zone)

    def interval(self, task: TaskName) -> timedelta:
        """Return the longest time between two runs of `task`."""
        return self.times[task].interval


def parse(text: str, key: str) -> When:
    """Parse a time of the schedule; RefnetError names `key` if it is invalid."""
    found = _TIME.fullmatch(text.strip().lower())
    when = _read(found) if found else None
    if when is None:
        raise RefnetError(f"{key} is not a valid time: '{text}'", _HINT, Exit.USAGE)
    return when


def _read(found: re.Match[str]) -> When | None:
    word, minute = found["word"], int(found["minute"])
    hour = None if found["hour"] is None else int(found["hour"])
    day = None if found["day"] is None else int(found["day"])
    if minute > 59 or (hour or 0) > 23 or (hour is None) != (word == "hourly"):
        return None
    if (day is None) == (word == "monthly") or (day is not None and not 1 <= day <= 28):
        return None
    if word in {"hourly", "daily", "monthly"}:
        return When(minute, hour, day=day)
    return When(minute, hour, weekday=WEEKDAYS.index(word)) if word in WEEKDAYS else None


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone `name`; RefnetError names the key if it is unknown."""
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError(name)  # noqa: TRY301  # ZoneInfo would search folders of any depth
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RefnetError(
            f"{ZONE_KEY} is not a known time zone: '{name}'",
            "Use a name of the tz database such as Asia/Tokyo, or remove the key to use the machine's zone.",
            Exit.USAGE,
        ) from None
