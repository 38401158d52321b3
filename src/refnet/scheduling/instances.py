"""Installed units on a machine: one set with plain names, and any number of named instances.

An installation belongs to a REFNET_HOME and a settings file. Both are read from its services, so that installations
of other settings are recognized, even if their file is gone, and never overwritten.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.core.formatting import plain
from refnet.scheduling.units import MARK, PLAIN_SERVICES
from refnet.settings import CONFIG, FILE_NAME, Settings
from refnet.settings.converters import INSTANCE

_SERVICE = re.compile(
    rf"refnet-(?:backup(?:-[a-z][a-z0-9_-]*)?|prune|drill|monitor)(?:@({INSTANCE}))?\.service"
)
#: The longest unit that is read, in bytes; RefNet's are much shorter.
_MOST_BYTES = 64 << 10


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
