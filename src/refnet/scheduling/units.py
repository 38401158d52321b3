"""systemd's units: what `refnet schedule install` writes, as text, and what it may replace. Touches nothing.

Every file begins with a line that holds the digest of the rest. While it fits, the file is as RefNet wrote it and
may be replaced; otherwise somebody edited it, and it is theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.schedule import Schedule, TaskName

_MARK = "# Written by `refnet schedule install`. An edited file is left alone; SHA-256 of the rest: "
#: How long a run's tries count together, at most: four that each take their hours.
_TRIES_WITHIN = timedelta(hours=12)
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # where PrivateTmp= would hide things from us


@dataclass(frozen=True)
class _Unit:
    """`good`: exit codes beside 0 that are no failure of the unit."""

    name: str
    does: str
    command: tuple[str, ...]
    delay: int = 600
    again: bool = False
    good: tuple[int, ...] = ()
    tidies: bool = False


_UNITS = {
    TaskName.DATABASE: _Unit("refnet-backup", "back up the database", ("backup", "database"), again=True),
    TaskName.CONFIG: _Unit(
        "refnet-backup-config", "back up the configuration", ("backup", "config"), again=True
    ),
    TaskName.OBSIDIAN: _Unit(
        "refnet-backup-obsidian", "back up the vault", ("backup", "obsidian"), again=True
    ),
    TaskName.PRUNE: _Unit("refnet-prune", "delete what is no longer kept", ("prune",), tidies=True),
    TaskName.DRILL: _Unit("refnet-drill", "restore the newest artifacts and compare", ("drill",), good=(3,)),
    TaskName.MONITOR: _Unit(
        "refnet-monitor", "see whether everything is protected", ("monitor",), 60, good=(1,)
    ),
}


@dataclass(frozen=True)
class Service:
    """What the services are to run as and with.

    `user` None: units of a user's own manager. `writable`: the folders that every run writes in; `logs`: where the
    log goes, if it can; `beside`: where restores put things aside, which prune removes; `seen`: what else a run must
    see (a server's socket, the folders that it protects). `environment`: nothing secret. `own_server`: a run may
    start the embedded PostgreSQL, which is to outlive it. `vault_to_come`: where the vault will be, if there is none
    yet: until then its backup is passed over.
    """

    program: tuple[str, ...]
    folder: Path
    user: str | None
    writable: tuple[Path, ...]
    logs: Path | None
    beside: tuple[Path, ...]
    seen: tuple[Path, ...]
    environment: Mapping[str, str]
    own_server: bool
    vault_to_come: Path | None = None


@dataclass(frozen=True)
class File:
    """A unit file: its name and its whole text, the line with the digest included."""

    name: str
    text: str


class Found(StrEnum):
    """What is where a unit file goes."""

    NOTHING = "nothing"
    SAME = "the same"
    OLDER = "an older one of ours"
    EDITED = "edited by hand"


def timer(task: TaskName) -> str:
    """The name of a task's timer."""
    return f"{_UNITS[task].name}.timer"


def file_names(task: TaskName) -> tuple[str, str]:
    """The names of a task's service and timer."""
    return f"{_UNITS[task].name}.service", timer(task)


def scheduled(configured: Collection[SourceName]) -> tuple[TaskName, ...]:
    """The tasks that get a timer: all, but for the configuration where none is configured."""
    return tuple(task for task in TaskName if task is not TaskName.CONFIG or SourceName.CONFIG in configured)


def files(schedule: Schedule, tasks: Collection[TaskName], service: Service) -> tuple[File, ...]:
    """The service and the timer of each of `tasks`."""
    return tuple(
        file
        for task in tasks
        for file in (
            _signed(file_names(task)[0], _service(task, service, schedule.times[task].interval)),
            timer_file(task, schedule),
        )
    )


def timer_file(task: TaskName, schedule: Schedule) -> File:
    """The timer of `task`."""
    return _signed(timer(task), _timer(task, schedule))


def judge(text: str | None, wanted: File | None) -> Found:
    """What `text`, which lies where `wanted` would go (None: nowhere), is."""
    if text is None:
        return Found.NOTHING
    if wanted and text == wanted.text:
        return Found.SAME
    first, _, rest = text.partition("\n")
    return Found.OLDER if first == _first_line(rest) else Found.EDITED


def _signed(name: str, text: str) -> File:
    return File(name, f"{_first_line(text)}\n{text}")


def _first_line(rest: str) -> str:
    return _MARK + hashlib.sha256(rest.encode()).hexdigest()


def _timer(task: TaskName, schedule: Schedule) -> str:
    unit, when = _UNITS[task], schedule.times[task]
    return f"""[Unit]
Description=RefNet: {unit.does}, {when}

[Timer]
OnCalendar={when.on_calendar(schedule.zone)}
Persistent=true
RandomizedDelaySec={unit.delay}

[Install]
WantedBy=timers.target
"""


def _service(task: TaskName, service: Service, interval: timedelta) -> str:
    unit = _UNITS[task]
    return f"""[Unit]
Description=RefNet: {unit.does}
After=network-online.target postgresql.service docker.service
RequiresMountsFor={" ".join(_quoted(str(folder)) for folder in service.writable)}
{_tries(unit, interval)}{_condition(task, service)}
[Service]
Type=oneshot
ExecStart={" ".join(map(_word, (*service.program, *unit.command)))}
{_lines(*_identity(service), *_exits(unit, service))}
{_lines(*_hardening(service, _written(unit, service)))}
"""


def _tries(unit: _Unit, interval: timedelta) -> str:
    """Three more tries, in a unit that gets them; forgotten before the next run is due, which has its own."""
    seconds = min(_TRIES_WITHIN, interval / 2).total_seconds()
    return f"StartLimitIntervalSec={seconds:.0f}\nStartLimitBurst=4\n" if unit.again else ""


def _condition(task: TaskName, service: Service) -> str:
    if task is not TaskName.OBSIDIAN or service.vault_to_come is None:
        return ""
    return f"ConditionPathIsDirectory={_path(service.vault_to_come)}\n"


def _exits(unit: _Unit, service: Service) -> list[str]:
    lines = [f"SuccessExitStatus={' '.join(map(str, unit.good))}"] if unit.good else []
    if unit.again:  # but not after an exit code of what no second try mends: settings, damage, a question
        lines += ["Restart=on-failure", "RestartSec=300", "RestartPreventExitStatus=2 3 4 6"]
        # systemd counts every start as a try, also one by hand that went well: too many, and tonight's is refused
        manager = "+systemctl" if service.user else "systemctl --user"
        lines += [f"ExecStartPost=-{manager} reset-failed %n"]
    return lines


def _identity(service: Service) -> list[str]:
    lines = [f"User={service.user}"] if service.user else []
    lines += [f"WorkingDirectory={_path(service.folder)}"]
    lines += [
        f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(service.environment.items())
    ]
    lines += ["UMask=0077", "Nice=10"]
    if service.own_server:
        lines += ["KillMode=process"]
    return lines


def _written(unit: _Unit, service: Service) -> tuple[str, ...]:
    """The folders that a run of `unit` may write in; with a `-`: if it is there."""
    optional = (service.logs, *(service.beside if unit.tidies else ()))
    return (
        *map(str, service.writable),
        *(f"-{folder}" for folder in optional if folder and folder != Path("/")),
    )


def _hardening(service: Service, written: tuple[str, ...]) -> list[str]:
    """What a run does not need it cannot do. User namespaces stay: a proof shuts its server off the network by one."""
    paths = (*service.writable, *service.seen, service.folder)
    hidden = any(path.is_relative_to(folder) for path in paths for folder in _TEMPORARY)
    lines = [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        f"ReadWritePaths={' '.join(map(_quoted, written))}",
        f"PrivateTmp={'no' if hidden else 'yes'}",
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
    ]
    if service.user not in {None, "root"}:
        lines += ["CapabilityBoundingSet=", "AmbientCapabilities="]
    return lines


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _word(text: str) -> str:
    """One word of a command line: as any word, but there `$` stands for variables."""
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    """One word of a unit file, whatever it holds; `%` stands for specifiers there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = text and not any(c.isspace() or c in "\"\\';" for c in text)
    return escaped if plain else f'"{escaped}"'


def _path(path: Path) -> str:
    """A path where a unit file takes the rest of the line as it is."""
    return str(path).replace("%", "%%")
