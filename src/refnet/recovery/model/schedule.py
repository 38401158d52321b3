"""The schedule of all tasks, for Celery, systemd, the monitor and the metrics.

A time is written as `hourly :45`, `daily 02:00`, `sunday 03:00` or `monthly 1 05:00`; all are in one time zone. `off`
switches a task off.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from zoneinfo import ZoneInfo

from refnet.recovery.model.source_name import Kind, SourceName
from refnet.settings import Settings
from refnet.settings.sources import SHORT
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
    """The times of all tasks and sources. See `runs` for the tasks that back up the sources."""

    #: Those that are on.
    times: Mapping[str, When]
    #: None: the machine's time zone.
    zone: ZoneInfo | None = None
    #: The tasks that are off.
    off: tuple[str, ...] = ()
    #: Each source of a cluster → the cluster, which is one task.
    clusters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the schedule of `settings`."""
        found = {
            name.value: getattr(settings, f"schedule_{name}")
            for name in TaskName
            if name not in SHORT or name in settings.sources or settings.defaults_to(name)
        }
        found |= {name: settings.of(name).schedule for name in (*settings.clusters, *settings.sources)}
        on = {name: when for name, when in found.items() if when}
        clusters = {name: one.cluster for name, one in settings.sources.items() if one.cluster}
        off = tuple(name for name in found if name not in on and name not in clusters)
        return cls(on, settings.schedule_timezone, off, clusters)

    def runs(self, configured: Collection[SourceName]) -> dict[str, tuple[str, ...]]:
        """Return each task that backs up sources of `configured` → what it backs up.

        Databases with one time are one task, with the name of the first: so their snapshots are close together. The
        same is true for folders of a table. A cluster is a task of its own, and finds its databases when it runs.
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
        """Return the longest time between two runs of `task`; None: the task is off."""
        when = self.times.get(task)
        return when.interval if when else None
