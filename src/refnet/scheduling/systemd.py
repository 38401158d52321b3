"""systemd on this machine: its managers, and the installations whose units they have.

A missing systemd, as in a container, is an answer and no error. There is one installation with plain names, and any
number of named instances. Each belongs to a REFNET_HOME and a settings file. Both are read from its services, so that
installations of other settings are recognized, even if their file is gone, and never overwritten.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.core.formatting import plain
from refnet.scheduling.units import MARK, PLAIN_SERVICES
from refnet.settings import CONFIG, FILE_NAME, Settings, user_path
from refnet.settings.converters import INSTANCE

_SERVICE = re.compile(
    rf"refnet-(?:backup(?:-[a-z][a-z0-9_-]*)?|prune|drill|monitor|update|wal)(?:@({INSTANCE}))?\.service"
)
#: The longest unit that is read, in bytes; RefNet's are much shorter.
_MOST_BYTES = 64 << 10


@dataclass(frozen=True)
class Systemd:
    """A systemd manager: the system's, or this user's."""

    user: bool

    @property
    def folder(self) -> Path:
        """The folder of installed units."""
        if not self.user:
            return Path("/etc/systemd/system")
        config = os.environ.get("XDG_CONFIG_HOME", "")
        return (Path(config) if config.startswith("/") else user_path("~/.config")) / "systemd" / "user"

    @property
    def command(self) -> str:
        """The command that reaches this manager."""
        return "systemctl --user" if self.user else "systemctl"

    @property
    def has_user_bus(self) -> bool:
        """Whether the environment names a bus of the user; `su`, `sudo` and cron set none."""
        return any(os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"))

    def unreachable(self) -> str | None:
        """Return why the manager cannot be reached; None if it can."""
        done = self._run("show", "--property=Version")
        if done is None:
            return "systemctl is not installed"
        return None if done.returncode == 0 else _first_line(done)

    def reload(self) -> None:
        """Make the manager read its units again."""
        self._must("daemon-reload")

    def is_enabled(self, unit: str) -> bool:
        """Return whether `unit` starts at boot; works without a running manager."""
        return self._says("is-enabled", unit) == "enabled"

    def is_active(self, unit: str) -> bool:
        """Return whether `unit` runs; an active timer waits for its next time."""
        return self._says("is-active", unit) == "active"

    def is_waiting(self, timer: str) -> bool:
        """Return whether `timer` is enabled and active."""
        return self.is_enabled(timer) and self.is_active(timer)

    def enable(self, units: Iterable[str]) -> None:
        """Start `units` now and at boot."""
        self._must("enable", "--now", *units)

    def restart(self, units: Iterable[str]) -> None:
        """Start those of `units` again that run."""
        self._must("try-restart", *units)

    def disable(self, units: Iterable[str]) -> None:
        """Stop `units` now, and do not start them at boot."""
        self._must("disable", "--now", *units)

    def next_run(self, timer: str) -> datetime | None:
        """Return when `timer` elapses next (UTC), its random delay included; None if unknown."""
        text = self._says("show", "--timestamp=unix", "--property=NextElapseUSecRealtime", "--value", timer)
        return datetime.fromtimestamp(int(text[1:]), UTC) if text.startswith("@") else None

    def _says(self, *arguments: str) -> str:
        done = self._run(*arguments)
        return done.stdout.strip() if done else ""

    def _must(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done is None or done.returncode != 0:
            raise RefnetError(
                f"`{self.command} {' '.join(arguments)}` failed: {_first_line(done) if done else 'not installed'}",
                "Fix the cause and retry; a retry is safe.",
            )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str] | None:
        command = ["systemctl", *(["--user"] if self.user else []), "--no-ask-password", *arguments]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
        except FileNotFoundError:
            return None
        except subprocess.TimeoutExpired:
            raise RefnetError(
                f"`{self.command} {' '.join(arguments)}` did not answer within a minute",
                f"List its pending jobs: {self.command} list-jobs.",
            ) from None


def _first_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
    return lines[0].strip() if lines else f"exit code {done.returncode}"


@dataclass(frozen=True)
class Owner:
    """The settings that units run with."""

    #: REFNET_HOME.
    home: Path
    #: The settings file, or the path where one would be found.
    file: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.home, settings.file or settings.home / FILE_NAME)

    @property
    def exists(self) -> bool:
        return _exists(self.home) or _exists(self.file)

    def includes(self, other: "Owner | None") -> bool:
        """Whether units of `other` count as this owner's: same home, and the same settings file or a missing one."""
        if other is None:
            return True
        return self.home == other.home and (self.file == other.file or not _exists(other.file))


@dataclass(frozen=True)
class Installed:
    """The units of one installation in one folder."""

    #: "": the plain names.
    instance: str
    #: None: the units name no REFNET_HOME.
    owner: Owner | None
    #: The names of the unit files.
    units: frozenset[str]
    #: The folders that the services may write in.
    writable: frozenset[Path]

    @property
    def label(self) -> str:
        name = f"the units of instance {self.instance}" if self.instance else "the units without an instance"
        return f"{name} ({plain(str(self.owner.file))})" if self.owner else name


def installed(folder: Path) -> tuple[Installed, ...]:
    """Return the installations with services in `folder`, a folder of units."""
    found: dict[tuple[str, Owner | None], tuple[set[str], set[Path]]] = {}
    for name in _names(folder):
        match = _SERVICE.fullmatch(name)
        text = _text(folder / name) if match else None
        if match is None or text is None or not (text.startswith(MARK) or name in PLAIN_SERVICES):
            continue
        units, writable = found.setdefault((match[1] or "", _owner(text)), (set(), set()))
        timer = f"{name.removesuffix('.service')}.timer"
        units |= {name, timer} if (folder / timer).is_file() else {name}
        writable |= {Path(one) for one in _words(text, "ReadWritePaths=") if not one.startswith("-")}
    return tuple(
        Installed(instance, owner, frozenset(units), frozenset(writable))
        for (instance, owner), (units, writable) in found.items()
    )


def own(found: Iterable[Installed], owner: Owner) -> tuple[Installed, ...]:
    """Return the installations that belong to `owner`."""
    return tuple(one for one in found if owner.includes(one.owner))


def others(found: Iterable[Installed], owner: Owner) -> tuple[Installed, ...]:
    """Return the installations of other settings that still exist."""
    return tuple(one for one in found if one.owner and not owner.includes(one.owner) and one.owner.exists)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # of another user
        return True
    except (OSError, ValueError):
        return False


def _owner(text: str) -> Owner | None:
    set_here = dict(one.partition("=")[::2] for one in _words(text, "Environment="))
    folder = next(iter(_words(text, "WorkingDirectory=")), "")
    if "REFNET_HOME" not in set_here:
        return None
    home = Path(set_here["REFNET_HOME"])
    return Owner(home, Path(set_here.get(CONFIG) or Path(folder or home) / FILE_NAME))


def _words(text: str, key: str) -> list[str]:
    """Return the words of all lines `key` of a unit, unquoted."""
    lines = [line.removeprefix(key) for line in text.splitlines() if line.startswith(key)]
    if key == "WorkingDirectory=":  # the rest of the line, literally
        return [line.replace("%%", "%") for line in lines]
    pattern = r'"((?:[^"\\]|\\.)*)"|(\S+)'
    found = [quoted or plain for line in lines for quoted, plain in re.findall(pattern, line)]
    return [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in found]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return read_regular(path, _MOST_BYTES).decode("utf-8", "replace")
    except (OSError, RefnetError):
        return None
