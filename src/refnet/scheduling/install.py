"""Install or remove the units of a schedule: plan first, then act."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.catalog.schedule import TaskName
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, replace_file, user_name
from refnet.scheduling.systemd import Systemd
from refnet.scheduling.units import File, UnitState, file_names, judge, wal_service
from refnet.settings import FILE_NAME, Settings
from refnet.settings.converters import near_instance

#: How the names of services without a timer begin.
_ALWAYS = "refnet-wal"


@dataclass(frozen=True)
class FileStep:
    """One file of a plan."""

    path: Path
    found: UnitState
    #: The file after the step; None: it is removed.
    wanted: File | None

    @property
    def changes(self) -> bool:
        return self.found is not (UnitState.SAME if self.wanted else UnitState.NOTHING)

    @property
    def change(self) -> str:
        if not self.changes:
            return "keep"
        return "write" if self.wanted else "remove"

    def to_json(self) -> dict[str, Any]:
        text = self.wanted and self.wanted.text
        return {"path": str(self.path), "found": self.found, "change": self.change, "text": text}


@dataclass(frozen=True)
class InstallPlan:
    """The steps of an installation or a removal."""

    systemd: Systemd
    steps: tuple[FileStep, ...]
    #: The names of the timers that are active afterwards.
    timers: tuple[str, ...]
    #: The names of the services that run always.
    services: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[FileStep, ...]:
        """The steps of files that exist now or afterwards."""
        return tuple(step for step in self.steps if step.wanted or step.changes)

    def to_json(self) -> dict[str, Any]:
        files = [step.to_json() for step in self.shown]
        return {"plan": True, "files": files, "timers": self.timers, "services": self.services}

    @property
    def edited(self) -> tuple[Path, ...]:
        return tuple(step.path for step in self.steps if step.found is UnitState.EDITED and step.changes)

    @property
    def removed(self) -> tuple[str, ...]:
        """The timers that are removed, and the services that run always."""
        gone = (step.path.name for step in self.steps if step.changes and not step.wanted)
        return tuple(name for name in gone if name.endswith(".timer") or name.startswith(_ALWAYS))

    @property
    def active(self) -> tuple[str, ...]:
        """What is active afterwards."""
        return (*self.timers, *self.services)


@dataclass(frozen=True)
class InstallDone:
    """The changes that a plan made."""

    plan: InstallPlan
    changed: tuple[Path, ...]
    enabled: tuple[str, ...]
    #: Why the timers could not be enabled; None: they are enabled.
    unreachable: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "changed": [str(path) for path in self.changed],
            "enabled": self.enabled,
            "timers": self.plan.timers,
            "services": self.plan.services,
            "unreachable": self.unreachable,
        }


def plan(systemd: Systemd, instance: str, files: Iterable[File], stale: Iterable[str] = ()) -> InstallPlan:
    """Plan to install `files`, and to remove the units named `stale` and all others of `instance`."""
    wanted = {file.name: file for file in files}
    names = (*(name for task in TaskName for name in file_names(task, instance)), wal_service(instance))
    steps = []
    for name in dict.fromkeys((*names, *wanted, *stale)):
        path = systemd.folder / name
        steps.append(FileStep(path, judge(_read(path), wanted.get(name)), wanted.get(name)))
    timers = tuple(name for name in wanted if name.endswith(".timer"))
    return InstallPlan(
        systemd, tuple(steps), timers, tuple(name for name in wanted if name.startswith(_ALWAYS))
    )


def name_for(settings: Settings) -> str:
    """Return a name for the instance of `settings`, from the path of their file."""
    file = settings.file or settings.home / FILE_NAME
    name = near_instance(file.parent.name if file.name == FILE_NAME else file.stem)
    return name if name not in {"", "refnet", settings.instance} else "second"


def check_user_manager(systemd: Systemd) -> None:
    """Raise RefnetError if the user's manager cannot be reached because this session has no user bus."""
    if systemd.user and not systemd.has_user_bus and systemd.unreachable():
        uid = os.geteuid()
        raise RefnetError(
            "this session has no systemd user bus (XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS are not set); nothing was changed",
            f"As root: `loginctl enable-linger {user_name(uid)}`; then export XDG_RUNTIME_DIR=/run/user/{uid} and retry."
            f" Or install the system's timers: `sudo refnet schedule install --as {user_name(uid)}`.",
        )


def act(plan: InstallPlan, *, force: bool) -> InstallDone:
    """Carry out `plan`. RefnetError, before any change, if a file was edited and `force` is not given."""
    systemd = plan.systemd
    if plan.edited and not force:
        others = f" and {len(plan.edited) - 1} more" if len(plan.edited) > 1 else ""
        raise RefnetError(
            f"{plan.edited[0]}{others} was edited by hand, and nothing was changed",
            f"Move your changes to a drop-in (`{systemd.command} edit UNIT`), which stays, and give --force.",
            Exit.CONFIRM,
        )
    unreachable = systemd.unreachable()
    running = [name for name in plan.removed if systemd.is_enabled(name) or systemd.is_active(name)]
    if running and not unreachable:
        systemd.disable(running)
    changed = []
    for step in plan.steps:
        if step.changes:
            _write(step.path, step.wanted.text) if step.wanted else _remove(step.path)
            changed.append(step.path)
    if unreachable:
        return InstallDone(plan, tuple(changed), (), unreachable)
    if changed:
        systemd.reload()
    if again := [path.name for path in changed if path.name in plan.services]:
        systemd.restart(again)
    inactive = [name for name in plan.active if not systemd.is_waiting(name)]
    if inactive:
        systemd.enable(inactive)
    return InstallDone(plan, tuple(changed), tuple(inactive), None)


def _read(path: Path) -> str | None:
    with _explained(path):
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None


def _write(path: Path, text: str) -> None:
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():  # a unit that is masked or lives elsewhere
            path.unlink()
        replace_file(path, text.encode(), 0o644)


def _remove(path: Path) -> None:
    with _explained(path):
        path.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with explained(path):
            yield
    except RefnetError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        hint = "Run this as root (sudo), or give --user for units of your own."
        raise RefnetError(error.message, hint) from error.__cause__
