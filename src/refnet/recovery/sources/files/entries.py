"""Which entries of the configuration's folder are protected: a setting, each entry required or optional."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from refnet.errors import Exit, RefnetError


@dataclass(frozen=True)
class Wanted:
    """One entry: any of `names` that is there; `folder` where it must be one, else it must be a file."""

    names: tuple[str, ...]
    required: bool
    folder: bool

    def __str__(self) -> str:
        return " or ".join(name + "/" * self.folder for name in self.names)


def wanted(spelled: Iterable[str]) -> tuple[Wanted, ...]:
    """The entries that `config.entries` spells: `a|b` either, `/` at the end a folder, `?` at the end optional."""
    found = []
    for text in spelled:
        names = text.removesuffix("?")
        folder = names.endswith("/")
        entry = Wanted(tuple(names.removesuffix("/").split("|")), not text.endswith("?"), folder)
        if any(not name or "/" in name or name in (".", "..") for name in entry.names):
            raise RefnetError(
                f"config.entries: '{text}' is no entry of the configuration's folder",
                "Name its files and folders themselves: .env, monitoring/, a|b for either, ? for optional.",
                Exit.USAGE,
            )
        found.append(entry)
    return tuple(found)


def names(entries: Iterable[Wanted]) -> frozenset[str]:
    """Every name that is listed."""
    return frozenset(name for entry in entries for name in entry.names)


def present(entries: Iterable[Wanted], root: int) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names that stand in the open folder `root`, and a sentence for each optional entry that does not.

    RefnetError where a required one is missing, or is not what an archive holds.
    """
    found: set[str] = set()
    absent: list[str] = []
    for entry in entries:
        there = [name for name in entry.names if _is_there(name, entry, root)]
        found.update(there)
        if not there and entry.required:
            raise RefnetError(
                f"config is not backed up: {entry} is missing",
                "Put it back, or mark it optional in config.entries with a ? at its end.",
            )
        if not there:
            absent.append(f"{entry} is not there (optional)")
    return frozenset(found), tuple(absent)


def _is_there(name: str, entry: Wanted, root: int) -> bool:
    try:
        mode = os.stat(name, dir_fd=root, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) if entry.folder else stat.S_ISREG(mode):
        return True
    if stat.S_ISDIR(mode):  # Docker makes a folder of a file that is missing and is to be mounted
        raise RefnetError(
            f"config is not backed up: {name} is a folder, not a file",
            f"Put the file back; if it is meant to be a folder, list it as {name}/ in config.entries.",
        )
    raise RefnetError(
        f"config is not backed up: {name} is not a {'folder' if entry.folder else 'file'}",
        "A link or a device holds nothing that an archive could keep: put the file itself there.",
    )
