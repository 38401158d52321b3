"""The active scheduler, the next runs, and warnings. Read-only."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from refnet.catalog.manifest import utc
from refnet.catalog.schedule import Schedule, TaskName
from refnet.catalog.source_name import SourceName
from refnet.core.locks import is_locked
from refnet.scheduling import places
from refnet.scheduling.service import libpq_variables
from refnet.scheduling.systemd import Installed, Owner, Systemd, installed, others, own
from refnet.scheduling.units import file_names, scheduled, timer, timer_file, wal_service
from refnet.settings import Settings
from refnet.settings.sources import SHORT

_BEAT = "Celery's beat"


@dataclass(frozen=True)
class Timers:
    """The units of these settings in one systemd manager, under one name."""

    systemd: Systemd
    #: "": the plain names.
    instance: str
    installed: frozenset[str]
    #: The tasks with enabled and active timers.
    waiting: frozenset[str]
    #: The timers that differ from the settings.
    changed: tuple[str, ...]
    unreachable: str | None

    @property
    def label(self) -> str:
        name = "systemd (this user's)" if self.systemd.user else "systemd"
        return f"{name}, instance {self.instance}" if self.instance else name

    def names(self, tasks: Iterable[str]) -> str:
        """Return the names of the timers of `tasks`."""
        return ", ".join(timer(task, self.instance) for task in tasks)


@dataclass(frozen=True)
class NextRun:
    """The next run of a task."""

    task: str
    when: str
    #: The time, in UTC.
    due: datetime
    #: The scheduler that starts the task; "": none.
    by: str

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "when": self.when, "next": utc(self.due), "by": self.by or None}


@dataclass(frozen=True)
class ScheduleStatus:
    """The report of `refnet schedule show`."""

    in_force: tuple[str, ...]
    tasks: tuple[NextRun, ...]
    #: The tasks without a schedule.
    off: tuple[str, ...]
    #: The installations of other settings on this machine.
    others: tuple[Installed, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        tasks = [task.to_json() for task in self.tasks]
        others = [one.label for one in self.others]
        return {
            "in_force": self.in_force,
            "tasks": tasks,
            "off": self.off,
            "others": others,
            "warnings": self.warnings,
        }


def timers_of(settings: Settings, configured: Collection[SourceName]) -> list[Timers]:
    """Return the state of the units that belong to `settings`, in each systemd manager and under each name."""
    schedule, owner = settings.schedule, Owner.of(settings)
    wanted = scheduled(schedule, configured)
    found = []
    for systemd in (Systemd(False), Systemd(True)):
        units: dict[str, frozenset[str]] = {}
        for one in own(installed(systemd.folder), owner):
            units[one.instance] = units.get(one.instance, frozenset()) | one.units
        found += [_timers(systemd, name, names, schedule, wanted) for name, names in units.items()]
    return found


def _timers(
    systemd: Systemd,
    name: str,
    units: frozenset[str],
    schedule: Schedule,
    wanted: Mapping[str, tuple[str, ...]],
) -> Timers:
    planned = (one for one in TaskName if one not in SHORT or one in schedule.times)
    known = dict.fromkeys((*wanted, *planned, *schedule.off))
    tasks = {task for task in known if units.issuperset(file_names(task, name))}
    unreachable = systemd.unreachable() if tasks else None
    waiting = {task for task in tasks if not unreachable and systemd.is_waiting(timer(task, name))}
    changed = tuple(
        timer(task, name)
        for task in tasks & schedule.times.keys()
        if _text(systemd.folder / timer(task, name))
        != timer_file(task, wanted.get(task, ()), schedule, name).text
    )
    gone = units - {one for task in known for one in file_names(task, name)}
    changed += tuple(sorted(one for one in gone if one.endswith(".timer")))
    return Timers(systemd, name, frozenset(tasks), frozenset(waiting), changed, unreachable)


def status(settings: Settings, configured: Collection[SourceName], now: datetime) -> ScheduleStatus:
    """Report on the timers and the Celery processes of `settings`."""
    schedule, home, instance = settings.schedule, settings.home, settings.instance
    present = [timers for timers in timers_of(settings, configured) if timers.installed]
    beat = is_locked(places.beat_lock(home, instance))
    active = [timers for timers in present if timers.waiting]
    labels = [timers.label for timers in active] + [_BEAT] * beat
    wanted = scheduled(schedule, configured)
    tasks = tuple(
        _next(task, due, schedule, active, beat=beat)
        for task in (dict.fromkeys((*TaskName, *wanted)) if beat else wanted)
        if (due := schedule.next_due(task, now))
    )
    warnings = _how_many(labels, present)
    if beat and not is_locked(places.worker_lock(home, instance), shared=True):
        warnings.append(f"{_BEAT} runs without a worker: its tasks stay queued")
    warnings += [sentence for timers in present for sentence in _of_manager(timers, wanted, schedule)]
    if any(one.wal for one in settings.clusters.values()):
        warnings += [sentence for timers in present for sentence in _of_wal(timers)]
    found = [one for user in (False, True) for one in installed(Systemd(user).folder)]
    return ScheduleStatus(
        tuple(labels), tasks, schedule.off, others(found, Owner.of(settings)), tuple(warnings)
    )


def _next(task: str, due: datetime, schedule: Schedule, managers: list[Timers], *, beat: bool) -> NextRun:
    found = [
        (timers.systemd.next_run(timer(task, timers.instance)) or due, timers.label)
        for timers in managers
        if task in timers.waiting
    ]
    if beat:
        found.append((due, _BEAT))
    return NextRun(task, str(schedule.times[task]), *min(found, default=(due, "")))


def _how_many(labels: list[str], present: list[Timers]) -> list[str]:
    if len(labels) > 1:
        return [f"{' and '.join(labels)} are both active: everything runs twice; stop one of them"]
    if labels or any(timers.unreachable for timers in present):
        return []
    return [
        "no scheduler is active: `refnet schedule install` (systemd), or `refnet beat` and `refnet worker`"
    ]


def _of_manager(timers: Timers, wanted: Collection[str], schedule: Schedule) -> list[str]:
    command, again = timers.systemd.command, "(`refnet schedule install`)"
    warnings = []
    inactive = [task for task in schedule.times if task in timers.installed - timers.waiting]
    if timers.unreachable:
        warnings.append(f"cannot reach {command} ({timers.unreachable}): the state of the timers is unknown")
    elif inactive:
        warnings.append(f"installed but not active: {timers.names(inactive)} (`{command} enable --now`)")
    units = [_text(timers.systemd.folder / file_names(task, timers.instance)[0]) for task in timers.installed]
    if lost := [name for name in libpq_variables() if any(f"{name}=" not in (text or "") for text in units)]:
        warnings.append(f"the units lack variables of this environment: {', '.join(lost)} {again}")
    if timers.changed:
        warnings.append(f"these differ from the settings: {', '.join(timers.changed)} {again}")
    if idle := [task for task in schedule.off if task in timers.installed]:
        warnings.append(f"switched off, but still installed: {timers.names(idle)} {again}")
    missing = [task for task in wanted if task not in timers.installed]
    if missing:
        warnings.append(f"without a timer: {', '.join(missing)} {again}")
    return warnings


def _of_wal(timers: Timers) -> list[str]:
    """Whether the service that receives WAL runs."""
    name, command = wal_service(timers.instance), timers.systemd.command
    if not (timers.systemd.folder / name).is_file():
        return [f"without the service {name}, which receives WAL (`refnet schedule install`)"]
    if timers.unreachable or timers.systemd.is_active(name):
        return []
    return [f"installed but not active: {name} (`{command} enable --now {name}`)"]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
