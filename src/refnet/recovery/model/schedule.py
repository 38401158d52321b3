"""The schedule of all tasks, for Celery, systemd, the monitor and the metrics.

A time is written as `hourly :45`, `daily 02:00`, `sunday 03:00` or `monthly 1 05:00`; all are in one time zone. `off`
switches a task off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from zoneinfo import ZoneInfo

from refnet.settings import Settings
from refnet.settings.times import When

ZONE_KEY = "schedule.timezone"


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
class Schedule:
    """The times of all tasks. A task is a TaskName, or the backup of another source by the source's name."""

    #: Those that are on.
    times: Mapping[str, When]
    #: None: the machine's time zone.
    zone: ZoneInfo | None = None
    #: The tasks that are off.
    off: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the schedule of `settings`."""
        found = {name.value: getattr(settings, f"schedule_{name}") for name in TaskName}
        found |= {name: settings.of(name).schedule for name in settings.sources}
        on = {name: when for name, when in found.items() if when}
        return cls(on, settings.schedule_timezone, tuple(name for name in found if name not in on))

    def next_due(self, task: str, now: datetime) -> datetime | None:
        """Return the first run of `task` after `now` (aware), in UTC; None: the task is off."""
        when = self.times.get(task)
        return when.next_due(now, self.zone) if when else None

    def interval(self, task: str) -> timedelta | None:
        """Return the longest time between two runs of `task`; None: the task is off."""
        when = self.times.get(task)
        return when.interval if when else None
