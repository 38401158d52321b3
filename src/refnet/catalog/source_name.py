"""The names of sources, and of the backup folder among the stores. A source's name is also a folder of the store, the prefix of artifacts, and a word on the command line."""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, Self

#: The name of the backup folder among the stores.
LOCAL = "local"
#: The most characters of a name.
LONGEST = 40
#: Ends the name of the source with the roles of a cluster.
GLOBALS = "-globals"
_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{LONGEST - 1}}}", re.ASCII)
#: The prefixes of the standard sources' files, words of the command line, stages, tasks and keys of settings.
RESERVED = frozenset(
    [
        "all",
        "any",
        "background",
        "check",
        "drill",
        "edge",
        "every",
        "folder",
        "globals",
        "live",
        "monitor",
        "none",
        "previous",
        "prune",
        "refnet",
        "set",
        "sets",
        "source",
        "store",
        "stores",
        "timezone",
        "vault",
    ]
)


def wrong_name(name: str) -> str:
    """The reason why `name` is not a valid source name; "" if it is."""
    if not _NAME.fullmatch(name):
        return f"not a name of 1 to {LONGEST} of a-z, 0-9, _ and -, with a letter first"
    return f"{name} is a reserved word" if name in RESERVED else ""


class Kind(StrEnum):
    """The kind of a source, which decides how it is backed up, opened, proven and restored."""

    DATABASE = "database"
    FOLDER = "folder"
    #: A file of SQLite.
    SQLITE = "SQLite database"
    #: The roles and global objects of a server.
    GLOBALS = "globals"
    #: On the command line alone: all databases and the roles of a server.
    CLUSTER = "cluster"


_KINDS = {"database": Kind.DATABASE, "config": Kind.FOLDER, "obsidian": Kind.FOLDER}


class SourceName(str):
    """A valid source name, with its kind; ValueError for an invalid one."""

    __slots__ = ("kind",)

    kind: Kind
    DATABASE: ClassVar["SourceName"]
    CONFIG: ClassVar["SourceName"]
    OBSIDIAN: ClassVar["SourceName"]

    def __new__(cls, name: str, kind: Kind) -> Self:
        if wrong := wrong_name(name):
            raise ValueError(wrong)
        if (standard := _KINDS.get(name)) and kind is not standard:
            raise ValueError(f"{name} is always a {standard}")
        made = super().__new__(cls, name)
        object.__setattr__(made, "kind", kind)
        return made

    def __reduce__(self) -> tuple[type, tuple[str, Kind]]:
        return type(self), (str(self), self.kind)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a SourceName is immutable")


SourceName.DATABASE, SourceName.CONFIG, SourceName.OBSIDIAN = STANDARD = (
    SourceName("database", Kind.DATABASE),
    SourceName("config", Kind.FOLDER),
    SourceName("obsidian", Kind.FOLDER),
)


def read_name(value: Any, kind: Kind | None = None) -> SourceName:
    """Parse a source name from JSON; ValueError if malformed.

    kind: the kind for other than standard names; None: only standard names are valid.
    """
    if not isinstance(value, str):
        raise ValueError("not text")  # noqa: TRY004  # as every check of JSON
    known = _KINDS.get(value, kind)
    if known is None:
        raise ValueError((wrong_name(value) and "not the name of a source") or "not a standard source")
    return named(value, known)


@lru_cache(maxsize=1024)
def named(name: str, kind: Kind) -> SourceName:
    """Cached SourceName(name, kind): a catalog has few sources and many artifacts."""
    return SourceName(name, kind)
