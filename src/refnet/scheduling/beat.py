"""The schedule for Celery's beat."""

import logging
import shelve
import time
from collections.abc import Mapping
from dbm import dumb
from pathlib import Path
from typing import Any

import tzlocal
from celery.beat import PersistentScheduler, ScheduleEntry
from celery.schedules import crontab

from refnet.broker import server
from refnet.catalog.schedule import ZONE_KEY, Schedule, TaskName
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.scheduling import places

_LOG = logging.getLogger(__name__)

#: Task → beat's name, Celery's name, priority (9 goes first). The first three names are the specification's.
ENTRIES = {
    TaskName.DATABASE: ("daily-database-backup", "refnet.tasks.backup_database", 9),
    TaskName.CONFIG: ("weekly-config-backup", "refnet.tasks.backup_config", 8),
    TaskName.OBSIDIAN: ("daily-obsidian-backup", "refnet.tasks.backup_obsidian", 7),
    TaskName.MONITOR: ("hourly-monitor", "refnet.tasks.monitor", 5),
    TaskName.PRUNE: ("daily-prune", "refnet.tasks.prune", 4),
    TaskName.DRILL: ("monthly-recovery-drill", "refnet.tasks.recovery_drill", 3),
    TaskName.UPDATE: ("network-update", "refnet.tasks.update_network", 2),
}


#: The task that backs up given sources or a given cluster, and its priority for a cluster.
BACKUP = "refnet.tasks.backup_source"
_CLUSTERS = 9


def beat_schedule(
    schedule: Schedule, configured: Mapping[SourceName, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Return `schedule` as Celery's beat_schedule. configured: source → priority; other named sources are left out."""
    runs = schedule.runs(configured or {})
    priorities = {str(name): priority for name, priority in (configured or {}).items()}
    named = {
        f"backup-{task}": {
            "task": BACKUP,
            "args": sources,
            "schedule": crontab(**schedule.times[task].crontab()),
            "options": {"priority": priorities.get(task, _CLUSTERS)},
        }
        for task, sources in runs.items()
        if task not in STANDARD
    }
    return named | {
        entry: {
            "task": task,
            **({"args": others} if (others := runs.get(name, ())[1:]) else {}),
            "schedule": crontab(**schedule.times[name].crontab()),
            "options": {"priority": priority},
        }
        for name, (entry, task, priority) in ENTRIES.items()
        if name in schedule.times
    }


def zone_name(schedule: Schedule) -> str:
    """Return the name of the settings' time zone, else of the machine's."""
    if schedule.zone:
        return schedule.zone.key
    try:
        return str(tzlocal.get_localzone_name())
    except (LookupError, ValueError):
        raise RefnetError(
            "the machine's time zone has no name in the tz database",
            f"Set {ZONE_KEY}, for example to Asia/Tokyo.",
            Exit.USAGE,
        ) from None


class Entry(ScheduleEntry):
    def is_due(self) -> Any:
        """Like Celery's, but a last run dated in the future delays nothing."""
        return self.schedule.is_due(min(self.last_run_at, self.default_now()))


class _Shelves:
    """A shelf that writes at each sync. Python's default format varies, and Berkeley DB writes only at the end."""

    @staticmethod
    def open(filename: str, writeback: bool) -> shelve.Shelf[Any]:  # as Celery calls it
        database: Any = dumb.open(filename, "c")  # noqa: SIM115  # the scheduler closes it
        return shelve.Shelf(database, writeback=writeback)


class Scheduler(PersistentScheduler):
    """Celery's scheduler, but no task is lost when the clock jumps back or the broker is unreachable."""

    Entry = Entry
    persistence = _Shelves
    #: The longest time between two ticks, in seconds; each tick gives a sign of life.
    max_interval = 30
    _last_tick = 0.0

    def __init__(self, app: Any, **options: Any) -> None:
        app.conf.result_backend = "disabled"  # beat needs no result; to ask for one can fail and lose a task
        Path(options["schedule_filename"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(app, **options)
        self._start_broker()

    def tick(self, *args: Any, **options: Any) -> Any:
        now = time.time()
        if now < self._last_tick:
            self._heap = None  # its times were computed with the old clock
        self._last_tick = now
        places.beat_sign(Path(self.schedule_filename).parent).touch(0o600)
        return super().tick(*args, **options)

    def reserve(self, entry: Any) -> Any:
        """Like Celery's, but a task counts as sent only after sending: beat may stop while it waits for the broker."""
        self._start_broker()
        return next(entry)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        super().apply_entry(entry, producer=producer)
        self.schedule[entry.name] = next(entry)
        self.sync()

    def _start_broker(self) -> None:
        if home := self.app.conf.get("refnet_embedded_home"):
            try:
                server.start(Path(home))
            except RefnetError as error:
                _LOG.error("%s. %s", error.message, error.hint)
