"""Journals of swaps in `REFNET_HOME/swaps`: the progress of restores and undos.

They are not beside the live folder, because its owner may be another user, who could forge a journal and make RefNet
move files. One file per swap, `NAME.STATE`: the state is the ending, so that a full disk cannot block a swap.
Nothing in a journal is trusted before it is checked: owner, mode, size, keys, types, and that each name is a single
path component.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from refnet.catalog.source_name import Kind, SourceName, read_name
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, names_in, opened, read_regular, replace_file, user_name
from refnet.core.member_names import MAX_PART, MAX_PATH, show
from refnet.core.records import Layout, Most, Needed, Rare, Record
from refnet.postgres.account import make_enterable

_FORMAT = 1
#: The largest journal, in bytes: that of a vault with 100,000 top entries has 10 MB.
_LARGEST = 64 << 20


class SwapState(StrEnum):
    """State of a swap; also the ending of its journal's name."""

    BEGUN = "begun"
    SWAPPING = "swapping"
    DONE = "kept"


class SwapReason(StrEnum):
    """The reason for a swap."""

    RESTORED = "restored"
    UNDONE = "undone"


def _source(value: object) -> SourceName:
    source = read_name(value, Kind.FOLDER)
    if source.kind is not Kind.FOLDER:
        raise ValueError("not a folder")
    return source


def _component(value: object) -> str:
    name: str = _COMPONENT(value)
    if name in {".", ".."} or len(os.fsencode(name)) > MAX_PART:
        raise ValueError("not a single name")
    return name


_COMPONENT = checked.text(MAX_PART, shortest=1, like="[^/]+")
_Component = Annotated[str, _component]
_Components = Annotated[tuple[_Component, ...], Most(MAX_PATH)]
_Text = Annotated[str, checked.text(MAX_PATH)]
_Number = Annotated[int, checked.integer(0, (1 << 64) - 1)]


@dataclass(frozen=True)
class SwapUnit(Record):
    """One entry that is swapped."""

    name: _Component
    #: The inode of the new entry; None if the live one is removed and nothing replaces it.
    fresh: _Number | None
    #: The names from the journal's `base` to the folder of the entry: of the live one, the new one, the previous one. Earlier
    #: versions read a journal without it too.
    folder: Rare[_Components] = ()

    @property
    def path(self) -> str:
        return "/".join((*self.folder, self.name))


@dataclass(frozen=True)
class SwapJournal(Record):
    """The record of a swap."""

    LAYOUT = Layout(indent=1, end="")

    source: Annotated[SourceName, _source]
    artifact: _Text
    at: datetime
    why: SwapReason
    #: The folder that is restored, with all links resolved.
    live: _Text
    #: True if the work folder is beside `live`, False if it is in it.
    beside: bool
    #: The name of the work folder.
    work: _Component
    #: Also written in the work folder, so that no other folder is taken for it.
    token: Annotated[str, checked.text(32, like="[0-9a-f]{32}")]
    #: The user id that owns the work folder.
    owner: _Number
    #: The names from the parent of the work folder to the folder of the live entries.
    base: Needed[_Components] = ()
    #: The entries that are swapped.
    units: Needed[Annotated[tuple[SwapUnit, ...], Most(_LARGEST)]] = ()
    #: The name of the swap whose previous entries become the new ones (an undo), or "".
    took: Needed[Annotated[str, checked.text(100, like=r"([a-z][a-z0-9_-]*-\d{8}_\d{6}-[0-9a-f]{8})?")]] = ""
    #: True if the swap is rolled back, after a rename that failed.
    back: Needed[bool] = False

    @property
    def name(self) -> str:
        """The name of the journal, without its ending."""
        return f"{self.source}-{self.at.astimezone(UTC):%Y%m%d_%H%M%S}-{self.token[:8]}"

    @property
    def home(self) -> Path:
        """The parent of the work folder."""
        return Path(self.live).parent if self.beside else Path(self.live)

    def values(self) -> dict[str, Any]:
        return {"format": _FORMAT, **super().values()}

    @classmethod
    def read(cls, text: bytes, name: str) -> Self:
        """Parse the journal `name`. ValueError if it is not valid."""
        values = checked.document(text, _LARGEST)
        if values.pop("format", None) != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        journal = cls.from_values(values)
        if len({unit.path for unit in journal.units}) != len(journal.units):
            raise ValueError("an entry is listed twice")
        if journal.name != name:
            raise ValueError("its name does not match its content")
        return journal


@dataclass(frozen=True)
class Swap:
    """A journal in the folder `folder`, with the state of its swap."""

    folder: Path
    name: str
    state: SwapState
    journal: SwapJournal

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.{self.state}"


def swaps(folder: Path, source: SourceName, live: Path | None = None) -> list[Swap]:
    """Swaps of the folder `live` (None: all folders), oldest first.

    RefnetError for a journal that cannot be trusted.
    """
    found = [swap for swap in _all(folder, source) if live is None or swap.journal.live == str(live)]
    return sorted(found, key=lambda swap: swap.journal.at)


def find(folder: Path, name: str) -> Swap | None:
    """The swap `name`; None without a journal. RefnetError as for `swaps`."""
    source = name.rsplit("-", maxsplit=2)[0]
    return next((swap for swap in _all(folder, source) if swap.name == name), None)


def write(folder: Path, journal: SwapJournal, state: SwapState) -> Swap:
    """Write `journal` atomically and durably. OSError if that fails."""
    make_enterable(folder.parent)  # the home of an embedded server, whose user must be able to pass through
    folder.mkdir(mode=0o700, exist_ok=True)
    swap = Swap(folder, journal.name, state, journal)
    text = journal.to_json().encode()
    if len(text) > _LARGEST:
        raise OSError(errno.EFBIG, "too many entries to be swapped", str(swap.path))
    replace_file(swap.path, text)
    return swap


def set_state(swap: Swap, state: SwapState) -> Swap:
    """Change the state of `swap`, in one step."""
    changed = Swap(swap.folder, swap.name, state, swap.journal)
    with _folder(swap.folder) as handle:
        os.rename(swap.path.name, changed.path.name, src_dir_fd=handle, dst_dir_fd=handle)
        os.fsync(handle)
    return changed


def forget(swap: Swap, state: SwapState | None = None) -> None:
    """Remove the journal of `swap`, or its leftover journal of an earlier `state`."""
    with _folder(swap.folder) as handle:
        try:
            os.unlink(f"{swap.name}.{state or swap.state}", dir_fd=handle)
        except FileNotFoundError:
            return
        os.fsync(handle)


def _all(folder: Path, source: str) -> Iterator[Swap]:
    try:
        with _folder(folder) as handle:
            states: dict[str, SwapState] = {}
            for entry in names_in(handle):
                name, _, ending = entry.rpartition(".")
                if ending in set(SwapState) and name.rsplit("-", maxsplit=2)[0] == source:
                    states[name] = max(
                        states.get(name, SwapState.BEGUN), SwapState(ending), key=list(SwapState).index
                    )
            for name, state in states.items():
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    yield _read(folder, handle, name, state)
    except FileNotFoundError:
        return


def _read(folder: Path, handle: int, name: str, state: SwapState) -> Swap:
    entry = f"{name}.{state}"
    try:
        journal = SwapJournal.read(read_regular(entry, _LARGEST, at=handle, owner=os.geteuid()), name)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RefnetError(
            f"{folder / show(entry)} is not a valid journal of a restore by this user: {why}",
            "A restore may have been interrupted. Check whether the live folder is complete, move this file away, "
            "then retry.",
        ) from error
    return Swap(folder, name, state, journal)


@contextmanager
def _folder(folder: Path) -> Iterator[int]:
    """Open the folder of journals. RefnetError if others can write in it, or another user owns it."""
    with opened(folder, OPEN_FOLDER) as handle:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RefnetError(
                f"the journals of restores in {folder} are not private to this user: owner "
                f"{user_name(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}",
                "Run it as that user, or move the folder away; `refnet undo` then has no earlier restore.",
            )
        yield handle
