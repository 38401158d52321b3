"""The protected entries of the configuration's folder: the setting config.entries."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from refnet.core.errors import Exit, RefnetError
from refnet.settings.converters import ENTRY_USAGE, is_entry


@dataclass(frozen=True)
class ConfigEntry:
    """One entry of config.entries."""

    #: Alternative names; each that exists is protected.
    names: tuple[str, ...]
    #: True if at least one of them must exist.
    required: bool
    #: True for a folder, False for a file.
    folder: bool

    def __str__(self) -> str:
        return " or ".join(name + "/" * self.folder for name in self.names)


def parse_entries(spelled: Iterable[str]) -> tuple[ConfigEntry, ...]:
    """Parse config.entries: `a|b` for alternatives, `/` at the end for a folder, `?` at the end for optional."""
    found = []
    for text in spelled:
        names = text.removesuffix("?")
        folder = names.endswith("/")
        entry = ConfigEntry(tuple(names.removesuffix("/").split("|")), not text.endswith("?"), folder)
        if not is_entry(text):
            raise RefnetError(
                f"config.entries: '{text}' is not an entry of the configuration's folder",
                ENTRY_USAGE,
                Exit.USAGE,
            )
        found.append(entry)
    return tuple(found)


def names(entries: Iterable[ConfigEntry]) -> frozenset[str]:
    """All listed names."""
    return frozenset(name for entry in entries for name in entry.names)


def present(entries: Iterable[ConfigEntry], root: int) -> tuple[frozenset[str], tuple[str, ...]]:
    """Existing names in the open folder `root`, and sentences about missing optional entries.

    RefnetError if a required entry is missing, or an entry is not a file or folder as listed.
    """
    found: set[str] = set()
    absent: list[str] = []
    for entry in entries:
        existing = [name for name in entry.names if _exists(name, entry, root)]
        found.update(existing)
        if not existing and entry.required:
            raise RefnetError(
                f"config is not backed up: {entry} is missing",
                "Put it back, or mark it optional in config.entries with a ? at its end.",
            )
        if not existing:
            absent.append(f"{entry} does not exist (optional)")
    return frozenset(found), tuple(absent)


def _exists(name: str, entry: ConfigEntry, root: int) -> bool:
    try:
        mode = os.stat(name, dir_fd=root, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) if entry.folder else stat.S_ISREG(mode):
        return True
    if stat.S_ISDIR(mode):  # Docker creates a folder in place of a missing file that is to be mounted
        raise RefnetError(
            f"config is not backed up: {name} is a folder, not a file",
            f"Put the file back. If it should be a folder, list it as {name}/ in config.entries.",
        )
    raise RefnetError(
        f"config is not backed up: {name} is not a {'folder' if entry.folder else 'file'}",
        "Links and devices cannot be backed up: put the file itself there.",
    )
