"""The text of the systemd units of `refnet schedule install`, and which existing files may be replaced.

The first line of each file contains the SHA-256 of the rest. If it matches, the file is unedited and may be replaced;
an edited file is replaced only with --force.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from string import Template

from refnet.catalog.schedule import Schedule, TaskName
from refnet.catalog.source_name import SourceName

#: The first line of each file, up to the digest.
MARK = "# Written by `refnet schedule install`. An edited file is left alone; SHA-256 of the rest: "
#: The longest period over which the tries of one run are counted: four tries may take several hours.
_TRIES_WITHIN = timedelta(hours=12)
#: The greatest age of an artifact with which a retry makes no new one.
_NEW_ENOUGH = timedelta(hours=1)
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # PrivateTmp= would hide paths below them


@dataclass(frozen=True)
class _Unit:
    """The parts of a task's units that no setting changes."""

    name: str
    does: str
    command: tuple[str, ...]
    #: Random delay of the timer, in seconds.
    delay: int = 600
    #: Restart after a failure that may be transient.
    retried: bool = False
    #: Exit codes other than 0 that do not count as a failure of the unit.
    good: tuple[int, ...] = ()
    #: Removes previous versions, so it writes beside the protected folders.
    prunes: bool = False
    #: Writes notes into the vault.
    notes: bool = False


_UNITS = {
    TaskName.DATABASE: _Unit("refnet-backup", "back up the database", ("backup", "database"), retried=True),
    TaskName.CONFIG: _Unit(
        "refnet-backup-config", "back up the configuration", ("backup", "config"), retried=True
    ),
    TaskName.OBSIDIAN: _Unit(
        "refnet-backup-obsidian", "back up the vault", ("backup", "obsidian"), retried=True
    ),
    TaskName.PRUNE: _Unit("refnet-prune", "delete what is no longer kept", ("prune",), prunes=True),
    TaskName.DRILL: _Unit(
        "refnet-drill", "restore the newest artifacts and compare", ("drill", "--recovery"), good=(3,)
    ),
    TaskName.MONITOR: _Unit(
        "refnet-monitor", "see whether everything is protected", ("monitor",), 60, good=(1,)
    ),
    TaskName.UPDATE: _Unit(
        "refnet-update", "collect new papers that cite yours", ("crawl", "--update"), notes=True
    ),
}


#: The service that receives WAL; it has no timer.
_WAL = _Unit("refnet-wal", "receive the WAL of clusters", ("wal", "run"))
#: The services without an instance.
PLAIN_SERVICES = frozenset(f"{unit.name}.service" for unit in (*_UNITS.values(), _WAL))


@dataclass(frozen=True)
class Service:
    """The user, folders and environment of the services."""

    program: tuple[str, ...]
    #: The working directory.
    folder: Path
    #: The system user; None for units of a user's own manager.
    user: str | None
    #: The folders that every run writes to.
    writable: tuple[Path, ...]
    #: The folder of the log; a run succeeds without it.
    logs: Path | None
    #: The folders in which restores keep previous versions, which prune removes.
    beside: tuple[Path, ...]
    #: Other paths that a run reads: the server's socket, the protected folders.
    seen: tuple[Path, ...]
    #: Environment variables; none is secret.
    environment: Mapping[str, str]
    #: A run may start the embedded PostgreSQL, which must outlive it.
    own_server: bool
    #: Folders of RefNet's own server and of a vault that do not exist yet; until then the backup is skipped.
    server_to_come: Path | None = None
    vault_to_come: Path | None = None
    #: The name of the instance; "": plain names.
    instance: str = ""
    #: The folders of remote stores, which a run writes to; a disk may be unmounted.
    stores: tuple[Path, ...] = ()
    #: The folders of databases that are files: a backup opens them, and SQLite writes its log beside them.
    opened: tuple[Path, ...] = ()
    #: The vault, for the notes of an update; it may be missing.
    vault: Path | None = None


@dataclass(frozen=True)
class File:
    """A unit file: name and complete text, with the line of the digest."""

    name: str
    text: str


class UnitState(StrEnum):
    """The state of a unit file on the disk."""

    NOTHING = "nothing"
    SAME = "the same"
    OLDER = "an older version of RefNet's"
    EDITED = "edited by hand"


def _unit(task: str, sources: tuple[str, ...] = ()) -> _Unit:
    """Return the unit of a task that backs up `sources`; (): the source named like the task, if any."""
    standard = {str(name): unit for name, unit in _UNITS.items()}
    if task in standard and sources in {(), (task,)}:
        return standard[task]
    sources = sources or (task,)
    unit = standard.get(task) or _Unit(f"refnet-backup-{task}", "", (), retried=True)
    return replace(unit, does=f"back up {', '.join(sources)}", command=("backup", *sources))


def timer(task: str, instance: str = "") -> str:
    """Return the name of a task's timer."""
    name = _unit(task).name
    return f"{name}@{instance}.timer" if instance else f"{name}.timer"


def file_names(task: str, instance: str = "") -> tuple[str, str]:
    """Return the names of a task's service and timer."""
    name = timer(task, instance)
    return f"{name.removesuffix('.timer')}.service", name


def wal_service(instance: str = "") -> str:
    """Return the name of the service that receives WAL."""
    return f"{_WAL.name}@{instance}.service" if instance else f"{_WAL.name}.service"


def wal_file(service: Service) -> File:
    """Return the service that receives WAL: it runs always, and systemd starts it again after every end but a wrong setting."""
    options = _service_options(_WAL, replace(service, own_server=False))
    target = "multi-user.target" if service.user else "default.target"
    return _service(
        wal_service(service.instance),
        _WAL,
        service,
        command=_WAL.command,
        unit_options=["StartLimitIntervalSec=0"],
        service_options=[*options, "Restart=always", "RestartSec=5", "RestartPreventExitStatus=2"],
        type="exec",
        install=f"\n\n[Install]\nWantedBy={target}",
    )


def scheduled(schedule: Schedule, configured: Collection[SourceName]) -> dict[str, tuple[str, ...]]:
    """Return each task that gets a timer → the sources that it backs up (empty if it is no backup).

    Backups get one only if their source is configured, except of RefNet's own server and a vault, which may come later.
    """
    always = {*TaskName} - {TaskName.CONFIG}
    runs = schedule.runs(configured)
    return {task: runs.get(task, ()) for task in schedule.times if task in always or task in runs}


def files(schedule: Schedule, tasks: Mapping[str, tuple[str, ...]], service: Service) -> tuple[File, ...]:
    """Return the service and the timer of each of `tasks`; see `scheduled`."""
    return tuple(
        file
        for task, sources in tasks.items()
        for file in (
            _service_file(task, _unit(task, sources), service, schedule.times[task].interval),
            timer_file(task, sources, schedule, service.instance),
        )
    )


def timer_file(task: str, sources: tuple[str, ...], schedule: Schedule, instance: str = "") -> File:
    """Return the timer of `task`, which backs up `sources`."""
    unit, when = _unit(task, sources), schedule.times[task]
    return _file(
        timer(task, instance),
        does=_does(unit, instance),
        when=when,
        calendar=when.on_calendar(schedule.zone),
        delay=unit.delay,
    )


def judge(text: str | None, wanted: File | None) -> UnitState:
    """Compare `text`, the existing file (None: no file), with `wanted`."""
    if text is None:
        return UnitState.NOTHING
    if wanted and text == wanted.text:
        return UnitState.SAME
    first, _, rest = text.partition("\n")
    return UnitState.OLDER if first == _first_line(rest) else UnitState.EDITED


def _file(name: str, **values: object) -> File:
    """Fill in the template of the unit's kind and add the line with the digest."""
    template = Path(__file__).with_name(f"{name.rpartition('.')[2]}.template").read_text(encoding="utf-8")
    text = Template(template).substitute(values)
    return File(name, f"{_first_line(text)}\n{text}")


def _first_line(rest: str) -> str:
    return MARK + hashlib.sha256(rest.encode()).hexdigest()


def _service_file(task: str, unit: _Unit, service: Service, interval: timedelta) -> File:
    """Return the service of `task`."""
    return _service(
        file_names(task, service.instance)[0],
        unit,
        service,
        command=(*unit.command, *_if_older(unit, interval)),
        unit_options=_unit_options(task, service, interval),
        service_options=_service_options(unit, service),
        type="oneshot",
        install="",
    )


def _service(
    name: str,
    unit: _Unit,
    service: Service,
    *,
    command: tuple[str, ...],
    unit_options: list[str],
    service_options: list[str],
    **more: str,
) -> File:
    """Return a service, restricted to what a run needs; a proof needs user namespaces. `more`: the rest of the template."""
    paths = (*service.writable, *service.stores, *service.seen, service.folder)
    hidden = any(path.is_relative_to(folder) for path in paths for folder in _TEMPORARY)
    limited = service.user not in {None, "root"}
    return _file(
        name,
        does=_does(unit, service.instance),
        mounts=" ".join(_quoted(str(folder)) for folder in service.writable),
        unit_options="".join(f"\n{line}" for line in unit_options),
        command=" ".join(map(_word, (*service.program, *command))),
        service_options="\n".join(service_options),
        written=" ".join(map(_quoted, _written(unit, service))),
        private_tmp="no" if hidden else "yes",
        capabilities="\nCapabilityBoundingSet=\nAmbientCapabilities=" if limited else "",
        **more,
    )


def _if_older(unit: _Unit, interval: timedelta) -> tuple[str, ...]:
    """Return the option that lets a retry send missing copies without making another artifact."""
    minutes = min(_NEW_ENOUGH, interval / 2) // timedelta(minutes=1)
    return ("--if-older", f"{minutes}min") if unit.retried else ()


def _does(unit: _Unit, instance: str) -> str:
    return f"{unit.does} (instance {instance})" if instance else unit.does


def _unit_options(task: str, service: Service, interval: timedelta) -> list[str]:
    lines = []
    if _unit(task).retried:  # four tries, forgotten before the next run is due
        seconds = min(_TRIES_WITHIN, interval / 2).total_seconds()
        lines += [f"StartLimitIntervalSec={seconds:.0f}", "StartLimitBurst=4"]
    to_come = {"database": service.server_to_come, "obsidian": service.vault_to_come}
    if folder := to_come.get(task):
        lines += [f"ConditionPathIsDirectory={_path(folder)}"]
    return lines


def _service_options(unit: _Unit, service: Service) -> list[str]:
    lines = [f"User={service.user}"] if service.user else []
    lines += [f"WorkingDirectory={_path(service.folder)}"]
    lines += [
        f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(service.environment.items())
    ]
    lines += ["UMask=0077", "Nice=10"]
    if service.own_server:
        lines += ["KillMode=process"]
    if unit.good:
        lines += [f"SuccessExitStatus={' '.join(map(str, unit.good))}"]
    if unit.retried:  # not after exit codes that a retry cannot change: settings, damage, confirmation
        lines += ["Restart=on-failure", "RestartSec=300", "RestartPreventExitStatus=2 3 4 6"]
        # systemd counts every start as a try, also successful manual ones: after four it would refuse tonight's
        manager = "+systemctl" if service.user else "systemctl --user"
        lines += [f"ExecStartPost=-{manager} reset-failed %n"]
    return lines


def _written(unit: _Unit, service: Service) -> tuple[str, ...]:
    """Return the folders that a run of `unit` may write to; a leading `-` allows a folder to be missing."""
    opened = service.opened if unit.retried else ()
    vault = [service.vault] if unit.notes else []
    optional = (service.logs, *service.stores, *(service.beside if unit.prunes else ()), *opened, *vault)
    return (
        *map(str, service.writable),
        *(f"-{folder}" for folder in optional if folder and folder != Path("/")),
    )


def _word(text: str) -> str:
    """Quote one word of a command line, in which `$` stands for variables."""
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    """Quote one word of a unit file, in which `%` stands for specifiers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = text and not any(c.isspace() or c in "\"\\';" for c in text)
    return escaped if plain else f'"{escaped}"'


def _path(path: Path) -> str:
    """Escape a path for a key of a unit file that takes the rest of the line literally."""
    return str(path).replace("%", "%%")
