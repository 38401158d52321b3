"""What a backup of a folder keeps: its listed entries, what the rules leave out, and the metadata that is not kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.member_names import show
from refnet.settings.converters import ENTRY_USAGE, entry_names, is_entry
from refnet.settings.sources import matcher

#: How many paths of each kind are named.
_SHOWN = 5
#: What is told for each attribute that is not kept; a label of the system's policy is on every file, so it is only
#: counted.
SET_ID = "the set-user-ID or set-group-ID bit"
HARD_LINKS = "the hard link"
_LABELS = {"security.selinux", "security.SMACK64", "security.ima", "security.evm", "system.nfs4_acl"}
_MOST_KINDS, _LONGEST = 50, 300


@dataclass(frozen=True)
class Scope:
    """The part of a folder."""

    #: The entries of the folder; None: all. None of them is left out itself, only what is in it.
    only: Collection[str] | None = None
    #: The rules of what is left out, as in .gitignore.
    exclude: tuple[str, ...] = ()
    #: True: leave out what is mounted in it.
    one_file_system: bool = False
    #: The path from the folder that the rules are about to the walked one: "", or with a / at its end.
    prefix: str = ""
    #: The work folders of restores among the entries of the folder: they are no part of it.
    own: Collection[str] = frozenset()

    def of(self, only: Collection[str] | None, prefix: str = "") -> Self:
        """Return the scope of the folder at `prefix`, with its entries `only`."""
        return replace(self, only=only, prefix=prefix)

    @cached_property
    def leaves_out(self) -> Callable[[str], bool] | None:
        """Predicate for excluded paths, with a / after a folder; None without rules."""
        if not self.exclude:
            return None
        matches, prefix = matcher(self.exclude), self.prefix
        return lambda path: matches(prefix + path)


EVERYTHING = Scope()


@dataclass
class ExcludedEntries:
    """Counts of excluded entries. A folder counts once, as it is not read."""

    #: Files, links and others: everything except folders.
    files: int = 0
    #: Folders, each with everything in it.
    folders: int = 0
    #: Of the files.
    bytes: int = 0
    #: The paths of both; None: they are only counted.
    paths: list[str] | None = None
    #: The paths of folders where another file system is mounted, which was not read.
    mounts: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.files or self.folders)

    def add(self, path: str, size: int | None) -> None:
        """Count the entry `path`: a file of `size` bytes, or a folder (None)."""
        self.folders += size is None
        self.files += size is not None
        self.bytes += size or 0
        if self.paths is not None:
            self.paths.append(path)

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "folders": self.folders, "bytes": self.bytes}


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
        folder = text.removesuffix("?").endswith("/")
        entry = ConfigEntry(tuple(entry_names(text)), not text.endswith("?"), folder)
        if not is_entry(text):
            raise RefnetError(
                f"config.entries: '{text}' is not an entry of the configuration's folder",
                ENTRY_USAGE,
                Exit.USAGE,
            )
        found.append(entry)
    return tuple(found)


def listed_names(entries: Iterable[ConfigEntry]) -> frozenset[str]:
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


def listed_and_excluded(scope: Scope, names: Iterable[str]) -> list[str]:
    """Listed `names` that the rules of `scope` exclude."""
    out = scope.leaves_out
    return sorted(name for name in names if out and (out(name) or out(f"{name}/")))


def everything_excluded(source: SourceName, folder: Path) -> RefnetError:
    """Error: the rules exclude everything."""
    return RefnetError(
        f"{source} is not backed up: exclude leaves out every file in {show(str(folder))}",
        f"Fix {rules_of(source)} in the settings. Earlier artifacts are kept.",
        Exit.USAGE,
    )


def rules_of(source: SourceName) -> str:
    """Return the key of the rules of `source`."""
    short = source in {SourceName.CONFIG, SourceName.OBSIDIAN}
    return f"exclude.{source}" if short else f"folders.{source}.exclude"


def entries_of(source: SourceName) -> str:
    """Return the key of the entries of `source`."""
    return "config.entries" if source == SourceName.CONFIG else f"folders.{source}.entries"


class Aspect(StrEnum):
    """A part of a file's metadata."""

    OWNER = "the owner"
    MODE = "the mode"
    TIME = "the time"
    ACL = "the ACL"
    XATTRS = "the extended attributes"


@dataclass
class CountedMetadata:
    """Kind → the number of entries, and the first of them."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        paths = self.first.setdefault(kind, [])
        if len(paths) < _SHOWN:
            paths.append(show(path))

    def to_json(self) -> dict[str, Any]:
        return {kind: {"count": count, "first": self.first[kind]} for kind, count in self.counts.items()}

    def sentences(self, says: str) -> tuple[str, ...]:
        """Return a sentence for each kind, like `SAYS: KIND of a, b and 3 more`."""
        return tuple(
            f"{says}: {show(kind)} of {', '.join(self.first[kind])}"
            f"{f' and {count - _SHOWN:,} more' if count > _SHOWN else ''}"
            for kind, count in self.counts.items()
            if kind not in _LABELS
        )


@dataclass
class Unheld(CountedMetadata):
    """The metadata that could not be set."""

    #: (aspect, path) of each.
    paths: set[tuple[Aspect, str]] = field(default_factory=set)

    def add(self, kind: str, path: str) -> None:
        super().add(kind, path)
        self.paths.add((Aspect(kind), path))

    def told(self) -> tuple[str, ...]:
        return self.sentences("this user or file system could not set")


def unkept(details: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about metadata not kept, from a manifest's details, which may be forged."""
    found, counted = details.get("unkept"), CountedMetadata()
    for kind, value in list(found.items())[:_MOST_KINDS] if isinstance(found, dict) else ():
        count, first = (value.get("count"), value.get("first")) if isinstance(value, dict) else (None, None)
        if type(count) is int and isinstance(first, list):
            counted.counts[kind] = count
            counted.first[kind] = [show(one, _LONGEST) for one in first[:_SHOWN] if isinstance(one, str)]
    return counted.sentences("not kept")


def looked(details: Mapping[str, Any]) -> bool:
    """Whether the artifact was made by a version that records ACLs and attributes."""
    return isinstance(details.get("unkept"), dict)
