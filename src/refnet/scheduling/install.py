"""Put the units of a schedule in place, or take them away: planned first, then done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.schedule import TaskName
from refnet.scheduling.systemctl import Systemd
from refnet.scheduling.units import File, Found, file_names, judge, timer


@dataclass(frozen=True)
class Step:
    """One file: what lies there, and what it becomes (None: nothing, it is removed)."""

    path: Path
    found: Found
    wanted: File | None

    @property
    def changes(self) -> bool:
        return self.found is not (Found.SAME if self.wanted else Found.NOTHING)


@dataclass(frozen=True)
class Plan:
    """What an install does; `timers` are those that are to run afterwards."""

    systemd: Systemd
    steps: tuple[Step, ...]
    timers: tuple[str, ...]

    @property
    def edited(self) -> tuple[Path, ...]:
        return tuple(step.path for step in self.steps if step.found is Found.EDITED and step.changes)

    @property
    def gone(self) -> tuple[str, ...]:
        """The timers that are removed."""
        return tuple(
            s.path.name for s in self.steps if s.changes and not s.wanted and s.path.suffix == ".timer"
        )


@dataclass(frozen=True)
class Done:
    """What an install did. `unreachable`: why the timers could not be enabled, or None where they are."""

    changed: tuple[Path, ...]
    enabled: tuple[str, ...]
    unreachable: str | None


def plan(systemd: Systemd, files: Iterable[File], tasks: Iterable[TaskName]) -> Plan:
    """What it takes that `files`, the units of `tasks`, are in place, and none of the other tasks.

    To remove everything, give nothing.
    """
    wanted = {file.name: file for file in files}
    steps = []
    for name in (name for task in TaskName for name in file_names(task)):
        path = systemd.folder / name
        steps.append(Step(path, judge(_read(path), wanted.get(name)), wanted.get(name)))
    return Plan(systemd, tuple(steps), tuple(timer(task) for task in tasks))


def act(plan: Plan, *, force: bool) -> Done:
    """Do what `plan` says. RefnetError, before anything is done, where a file was edited and `force` is not given."""
    if plan.edited and not force:
        others = f" and {len(plan.edited) - 1} more" if len(plan.edited) > 1 else ""
        raise RefnetError(
            f"{plan.edited[0]}{others} was edited by hand, and nothing was changed",
            f"Put your changes into a drop-in (`{plan.systemd.command} edit UNIT`), which stays, and give --force.",
            Exit.CONFIRM,
        )
    unreachable = plan.systemd.unreachable()
    running = [name for name in plan.gone if plan.systemd.is_enabled(name) or plan.systemd.is_active(name)]
    if running and not unreachable:
        plan.systemd.disable(running)
    changed = []
    for step in plan.steps:
        if step.changes:
            _write(step.path, step.wanted.text) if step.wanted else _remove(step.path)
            changed.append(step.path)
    if unreachable:
        return Done(tuple(changed), (), unreachable)
    if changed:
        plan.systemd.reload()
    sleeping = [
        name for name in plan.timers if not (plan.systemd.is_enabled(name) and plan.systemd.is_active(name))
    ]
    if sleeping:
        plan.systemd.enable(sleeping)
    return Done(tuple(changed), tuple(sleeping), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _denied(path, error) from error


def _write(path: Path, text: str) -> None:
    """Write under a temporary name, then rename: systemd never reads half a unit."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123  # a handle, not a path
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except OSError as error:
        raise _denied(path, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise _denied(path, error) from error


def _denied(path: Path, error: OSError) -> RefnetError:
    return RefnetError(
        f"{path}: {error.strerror}",
        "Run this as root (sudo), or give --user for units of your own.",
    )
