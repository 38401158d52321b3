"""The journals of swaps in `REFNET_HOME/swaps`: what a restore or an undo is doing beside a live folder, or has done.

They lie there because a folder that is restored may belong to somebody else, who could forge a journal beside it and
have files moved by whoever reads it. One file a swap, `NAME.STATE`; its state is its ending, so that a full disk keeps
no swap from being finished. What is read is held to be forged until it fits: owner, mode, size, keys, types, and each
name a single component of a path.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError
from refnet.files import OPEN_FOLDER, names_in, opened, read_regular, replace_file, user_name
from refnet.postgres.account import make_enterable
from refnet.recovery.model.artifact import SourceName, utc
from refnet.recovery.sources.files.member_names import MAX_PART, MAX_PATH, show

_FORMAT = 1
#: Bytes of a journal at most: that of a vault with 100,000 entries at its top has 10 MB.
_LARGEST = 64 << 20
_NAME = re.compile(r"(?:config|obsidian)-\d{8}_\d{6}-[0-9a-f]{8}")
_TOKEN = re.compile(r"[0-9a-f]{32}")


class State(StrEnum):
    """How far a swap is; the ending of its journal's name."""

    BEGUN = "begun"
    SWAPPING = "swapping"
    KEPT = "kept"


class Why(StrEnum):
    """What a swap does."""

    RESTORED = "restored"
    UNDONE = "undone"


@dataclass(frozen=True)
class Unit:
    """One entry: its name, and the inode of the fresh one; None where the live one goes and nothing comes."""

    name: str
    fresh: int | None


@dataclass(frozen=True)
class Journal:
    """What a swap does.

    source, artifact, at, why: what is restored, and when.
    live: the folder that is restored, links on the way to it resolved.
    beside: whether the work folder lies beside `live`; else it lies in it.
    work: the name of the work folder.
    token: what is written in the work folder, which tells it from one that somebody else puts in its place.
    owner: the user id that the work folder belongs to.
    base: the names that lead from the folder that holds the work folder to that of the live entries.
    units: the entries that are swapped.
    took: the name of the swap whose kept entries become the fresh ones (an undo); "" for none.
    back: whether the swap is being taken back, after a rename that failed.
    """

    source: SourceName
    artifact: str
    at: datetime
    why: Why
    live: str
    beside: bool
    work: str
    token: str
    owner: int
    base: tuple[str, ...] = ()
    units: tuple[Unit, ...] = field(default=())
    took: str = ""
    back: bool = False

    @property
    def name(self) -> str:
        """The name of the journal, without its ending."""
        return f"{self.source}-{self.at.astimezone(UTC):%Y%m%d_%H%M%S}-{self.token[:8]}"

    @property
    def home(self) -> Path:
        """The folder that holds the work folder."""
        return Path(self.live).parent if self.beside else Path(self.live)

    def to_json(self) -> bytes:
        return json.dumps({"format": _FORMAT, **asdict(self), "at": utc(self.at)}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes, name: str) -> Journal:
        """The journal `name` in `text`; ValueError says why it is none."""
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError(f"it is not of the format {_FORMAT}")
        if values.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("its keys are others")
        made = cls(**{key: _READERS[key](value) for key, value in values.items()})
        if len({unit.name for unit in made.units}) != len(made.units):
            raise ValueError("an entry stands twice in it")
        if made.name != name:
            raise ValueError("it has another name")
        return made


@dataclass(frozen=True)
class Swap:
    """A journal as it lies in the folder `folder`, with the state of its swap."""

    folder: Path
    name: str
    state: State
    journal: Journal

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.{self.state}"


def swaps(folder: Path, source: SourceName, live: Path) -> list[Swap]:
    """The swaps of the folder `live`, oldest first. RefnetError for a journal that is none of this user's."""
    found = [swap for swap in _all(folder, source) if swap.journal.live == str(live)]
    return sorted(found, key=lambda swap: swap.journal.at)


def find(folder: Path, name: str) -> Swap | None:
    """The swap `name`, where it still has a journal. RefnetError as for `swaps`."""
    return next(
        (swap for swap in _all(folder, SourceName(name.split("-", maxsplit=1)[0])) if swap.name == name), None
    )


def write(folder: Path, journal: Journal, state: State) -> Swap:
    """Write `journal` down, complete or not at all. OSError where that fails."""
    make_enterable(folder.parent)  # the home of an embedded server, whose user must be able to pass through
    folder.mkdir(mode=0o700, exist_ok=True)
    swap = Swap(folder, journal.name, state, journal)
    text = journal.to_json()
    if len(text) > _LARGEST:
        raise OSError(errno.EFBIG, "too many entries are to be swapped", str(swap.path))
    replace_file(swap.path, text)
    return swap


def turn(swap: Swap, state: State) -> Swap:
    """Give `swap` another state, in one step."""
    turned = Swap(swap.folder, swap.name, state, swap.journal)
    with _folder(swap.folder) as handle:
        os.rename(swap.path.name, turned.path.name, src_dir_fd=handle, dst_dir_fd=handle)
        os.fsync(handle)
    return turned


def forget(swap: Swap, state: State | None = None) -> None:
    """Remove the journal of `swap`, or one of the same name that an earlier `state` left."""
    with _folder(swap.folder) as handle:
        try:
            os.unlink(f"{swap.name}.{state or swap.state}", dir_fd=handle)
        except FileNotFoundError:
            return
        os.fsync(handle)


def _all(folder: Path, source: SourceName) -> Iterator[Swap]:
    try:
        with _folder(folder) as handle:
            states: dict[str, State] = {}
            for entry in names_in(handle):
                name, _, ending = entry.rpartition(".")
                if ending in set(State) and name.startswith(f"{source}-"):
                    states[name] = max(states.get(name, State.BEGUN), State(ending), key=list(State).index)
            for name, state in states.items():
                with suppress(FileNotFoundError):  # it was forgotten meanwhile
                    yield _read(folder, handle, name, state)
    except FileNotFoundError:
        return


def _read(folder: Path, handle: int, name: str, state: State) -> Swap:
    entry = f"{name}.{state}"
    try:
        journal = Journal.from_json(read_regular(entry, _LARGEST, at=handle, owner=os.geteuid()), name)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RefnetError(
            f"{folder / show(entry)} is no journal of a restore by this user: {why}",
            "It can mean a restore that was cut off. See whether the live folder is complete, move this file away, "
            "then run it again.",
        ) from error
    return Swap(folder, name, state, journal)


@contextmanager
def _folder(folder: Path) -> Iterator[int]:
    """The open folder of journals, which must be this user's, with no right for others to write in it."""
    with opened(folder, OPEN_FOLDER) as handle:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RefnetError(
                f"the journals of restores in {folder} are not this user's alone: it belongs to "
                f"{user_name(found.st_uid)}, with the mode {stat.S_IMODE(found.st_mode):04o}",
                "Run it as that user, or move the folder away; `refnet undo` then knows no earlier restore.",
            )
        yield handle


def _component(value: object) -> str:
    if not isinstance(value, str) or value in ("", ".", "..") or {"/", "\0"} & set(value):
        raise ValueError("a name in it is no single name")
    if len(os.fsencode(value)) > MAX_PART:
        raise ValueError("a name in it is too long")
    return value


def _components(value: object) -> tuple[str, ...]:
    return tuple(_component(name) for name in _list(value))


def _units(value: object) -> tuple[Unit, ...]:
    return tuple(_unit(one) for one in _list(value))


def _unit(value: object) -> Unit:
    if not isinstance(value, dict) or value.keys() != {"name", "fresh"}:
        raise ValueError("a unit in it is none")
    return Unit(_component(value["name"]), None if value["fresh"] is None else _whole(value["fresh"]))


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("a number in it is none")
    return value


def _truth(value: object) -> bool:
    if value is True or value is False:
        return value
    raise ValueError("a truth in it is none")


def _list(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    raise ValueError("a list in it is none")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_PATH:
        raise ValueError("a text in it is none")
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError("its time has no zone")
    return moment


def _like(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("a name in it is none of RefNet's")
    return value


_READERS: dict[str, Callable[[object], Any]] = {
    "source": lambda value: SourceName(_text(value)),
    "artifact": _text,
    "at": _moment,
    "why": lambda value: Why(_text(value)),
    "live": _text,
    "beside": _truth,
    "work": _component,
    "token": lambda value: _like(_TOKEN, value),
    "owner": _whole,
    "base": _components,
    "units": _units,
    "took": lambda value: "" if value == "" else _like(_NAME, value),
    "back": _truth,
}
