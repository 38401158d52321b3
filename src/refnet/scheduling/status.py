"""Which scheduler is in force, what runs next, and what is wrong with it. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.schedule import Schedule, TaskName
from refnet.scheduling import places
from refnet.scheduling.alive import is_held
from refnet.scheduling.systemctl import Systemd
from refnet.scheduling.units import file_names, scheduled, timer, timer_file


@dataclass(frozen=True)
class Timers:
    """RefNet's units in one manager, those of another REFNET_HOME left aside.

    `waiting`: the tasks whose timers wait for their time. `unlike`: timers that say other than the settings.
    """

    systemd: Systemd
    installed: frozenset[TaskName]
    waiting: frozenset[TaskName]
    unlike: tuple[str, ...]
    unreachable: str | None

    @property
    def label(self) -> str:
        return "systemd (this user's)" if self.systemd.user else "systemd"


@dataclass(frozen=True)
class Next:
    """When a task runs next (UTC), and who starts it; `by` empty: nobody."""

    task: TaskName
    when: str
    due: datetime
    by: str


@dataclass(frozen=True)
class Status:
    """What `refnet schedule show` tells."""

    in_force: tuple[str, ...]
    tasks: tuple[Next, ...]
    warnings: tuple[str, ...]


def timers_of(systemd: Systemd, home: Path, schedule: Schedule) -> Timers:
    """What there is of RefNet in `systemd` for the REFNET_HOME `home`."""
    texts = {name: _text(systemd.folder / name) for task in TaskName for name in file_names(task)}
    ours = {name: text for name, text in texts.items() if text is not None}
    installed = {task for task in TaskName if all(name in ours for name in file_names(task))}
    installed = {task for task in installed if _home_of(ours[file_names(task)[0]]) in {None, str(home)}}
    unreachable = systemd.unreachable() if installed else None
    waiting = {
        task
        for task in installed
        if not unreachable and systemd.is_enabled(timer(task)) and systemd.is_active(timer(task))
    }
    unlike = tuple(
        timer(task)
        for task in TaskName
        if task in installed and ours[timer(task)] != timer_file(task, schedule).text
    )
    return Timers(systemd, frozenset(installed), frozenset(waiting), unlike, unreachable)


def status(
    schedule: Schedule,
    configured: Collection[SourceName],
    home: Path,
    managers: Iterable[Timers],
    now: datetime,
) -> Status:
    """Put together what is in force."""
    present = [timers for timers in managers if timers.installed]
    beat = is_held(places.beat_lock(home))
    in_force = [timers for timers in present if timers.waiting]
    labels = [timers.label for timers in in_force] + (["Celery's beat"] if beat else [])
    tasks = tuple(
        _next(task, schedule, in_force, beat=beat, now=now)
        for task in (TaskName if beat else scheduled(configured))
    )
    warnings = (
        *_how_many(labels, present),
        *(
            ["Celery's beat runs, but no worker does: what it sends waits"]
            if beat and not _worker(home)
            else []
        ),
        *(sentence for timers in present for sentence in _of_manager(timers, configured)),
    )
    return Status(tuple(labels), tasks, warnings)


def _next(task: TaskName, schedule: Schedule, managers: list[Timers], *, beat: bool, now: datetime) -> Next:
    """The next run by whoever comes first."""
    found = [
        (timers.systemd.next_run(timer(task)) or schedule.next_due(task, now), timers.label)
        for timers in managers
        if task in timers.waiting
    ]
    if beat:
        found.append((schedule.next_due(task, now), "Celery's beat"))
    due, by = min(found) if found else (schedule.next_due(task, now), "")
    return Next(task, str(schedule.times[task]), due, by)


def _how_many(labels: list[str], present: list[Timers]) -> list[str]:
    if len(labels) > 1:
        return [f"{' and '.join(labels)} are both in force: everything runs twice; end one of them"]
    if labels or any(timers.unreachable for timers in present):
        return []
    return [
        "nothing runs by itself: `refnet schedule install` (systemd), or `refnet beat` and `refnet worker`"
    ]


def _of_manager(timers: Timers, configured: Collection[SourceName]) -> list[str]:
    if timers.unreachable:
        return [
            f"{timers.systemd.command} could not be reached ({timers.unreachable}): whether the timers run is not known"
        ]
    said = []
    asleep = [timer(task) for task in TaskName if task in timers.installed - timers.waiting]
    if asleep:
        said.append(
            f"installed, but not waiting for their time: {', '.join(asleep)} ({timers.systemd.command} enable --now)"
        )
    if timers.unlike:
        said.append(f"other than the settings say: {', '.join(timers.unlike)} (`refnet schedule install`)")
    missing = [task for task in scheduled(configured) if task not in timers.installed]
    if missing:
        said.append(f"without a timer: {', '.join(missing)} (`refnet schedule install`)")
    return said


def _worker(home: Path) -> bool:
    return is_held(places.worker_lock(home))


def _home_of(text: str) -> str | None:
    """The REFNET_HOME that a service of ours names; None where it names none."""
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
