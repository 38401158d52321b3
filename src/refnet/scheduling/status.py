"""Which scheduler is active, what runs next, and what is wrong with it. Read-only."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from refnet.locks import is_locked
from refnet.recovery.model.artifact import utc
from refnet.recovery.model.schedule import Schedule, TaskName
from refnet.recovery.model.source_name import SourceName
from refnet.scheduling import places
from refnet.scheduling.systemctl import Systemd
from refnet.scheduling.units import file_names, scheduled, timer, timer_file

_BEAT = "Celery's beat"


@dataclass(frozen=True)
class Timers:
    """The units of one REFNET_HOME in one systemd manager."""

    systemd: Systemd
    installed: frozenset[TaskName]
    #: The tasks whose timers are enabled and active.
    waiting: frozenset[TaskName]
    #: The timers whose text is not that of the settings.
    changed: tuple[str, ...]
    unreachable: str | None

    @property
    def label(self) -> str:
        return "systemd (this user's)" if self.systemd.user else "systemd"


@dataclass(frozen=True)
class Next:
    """The next run of a task."""

    task: TaskName
    when: str
    #: In UTC.
    due: datetime
    #: The scheduler that starts it; empty if none does.
    by: str

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "when": self.when, "next": utc(self.due), "by": self.by or None}


@dataclass(frozen=True)
class Status:
    """The report of `refnet schedule show`."""

    in_force: tuple[str, ...]
    tasks: tuple[Next, ...]
    #: The tasks that are switched off.
    off: tuple[TaskName, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        tasks = [task.to_json() for task in self.tasks]
        return {"in_force": self.in_force, "tasks": tasks, "off": self.off, "warnings": self.warnings}


def timers_of(systemd: Systemd, home: Path, schedule: Schedule) -> Timers:
    """Return the state of the units in `systemd` that belong to the REFNET_HOME `home`."""
    texts = {name: _text(systemd.folder / name) for task in TaskName for name in file_names(task)}
    ours = {name: text for name, text in texts.items() if text is not None}
    installed = {task for task in TaskName if all(name in ours for name in file_names(task))}
    installed = {task for task in installed if _home_of(ours[file_names(task)[0]]) in {None, str(home)}}
    unreachable = systemd.unreachable() if installed else None
    waiting = {task for task in installed if not unreachable and systemd.is_waiting(timer(task))}
    changed = tuple(
        timer(task)
        for task in TaskName
        if task in installed & {*schedule.times} and ours[timer(task)] != timer_file(task, schedule).text
    )
    return Timers(systemd, frozenset(installed), frozenset(waiting), changed, unreachable)


def status(
    schedule: Schedule,
    configured: Collection[SourceName],
    home: Path,
    managers: Iterable[Timers],
    now: datetime,
) -> Status:
    """Combine the timers of `managers` and the processes of Celery into a report."""
    present = [timers for timers in managers if timers.installed]
    beat = is_locked(places.beat_lock(home))
    active = [timers for timers in present if timers.waiting]
    labels = [timers.label for timers in active] + [_BEAT] * beat
    off = tuple(task for task in TaskName if task not in schedule.times)
    wanted = scheduled(schedule, configured)
    tasks = tuple(
        _next(task, due, schedule, active, beat=beat)
        for task in (schedule.times if beat else wanted)
        if (due := schedule.next_due(task, now))
    )
    warnings = _how_many(labels, present)
    if beat and not is_locked(places.worker_lock(home), shared=True):
        warnings.append(f"{_BEAT} runs without a worker: its tasks stay queued")
    warnings += [sentence for timers in present for sentence in _of_manager(timers, wanted, off)]
    return Status(tuple(labels), tasks, off, tuple(warnings))


def _next(task: TaskName, due: datetime, schedule: Schedule, managers: list[Timers], *, beat: bool) -> Next:
    found = [
        (timers.systemd.next_run(timer(task)) or due, timers.label)
        for timers in managers
        if task in timers.waiting
    ]
    if beat:
        found.append((due, _BEAT))
    return Next(task, str(schedule.times[task]), *min(found, default=(due, "")))


def _how_many(labels: list[str], present: list[Timers]) -> list[str]:
    if len(labels) > 1:
        return [f"{' and '.join(labels)} are both active: everything runs twice; stop one of them"]
    if labels or any(timers.unreachable for timers in present):
        return []
    return [
        "no scheduler is active: `refnet schedule install` (systemd), or `refnet beat` and `refnet worker`"
    ]


def _of_manager(timers: Timers, wanted: Collection[TaskName], off: Collection[TaskName]) -> list[str]:
    command = timers.systemd.command
    warnings = []
    inactive = [timer(task) for task in TaskName if task in timers.installed - timers.waiting]
    if timers.unreachable:
        warnings.append(f"cannot reach {command} ({timers.unreachable}): the state of the timers is unknown")
    elif inactive:
        warnings.append(f"installed but not active: {', '.join(inactive)} (`{command} enable --now`)")
    if timers.changed:
        warnings.append(
            f"these differ from the settings: {', '.join(timers.changed)} (`refnet schedule install`)"
        )
    if idle := [timer(task) for task in off if task in timers.installed]:
        warnings.append(f"switched off, but still installed: {', '.join(idle)} (`refnet schedule install`)")
    missing = [task for task in wanted if task not in timers.installed]
    if missing:
        warnings.append(f"without a timer: {', '.join(missing)} (`refnet schedule install`)")
    return warnings


def _home_of(text: str) -> str | None:
    """Return the REFNET_HOME that one of our services sets; None if it sets none."""
    for line in text.splitlines():
        if line.startswith(("Environment=REFNET_HOME=", 'Environment="REFNET_HOME=')):
            return (
                line.removeprefix("Environment=").strip('"').removeprefix("REFNET_HOME=").replace("%%", "%")
            )
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
