"""The part of a folder that is backed up, compared and restored, and its exclude rules."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from refnet.settings.patterns import matcher


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
class LeftOut:
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
