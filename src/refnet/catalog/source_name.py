"""The names of sources, and of the backup folder among the stores. A source's name is also a folder of the store, the prefix of artifacts, and a word on the command line."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, Self

#: The name of the backup folder among the stores.
LOCAL = "local"
#: The most characters of a name.
LONGEST = 40
#: Ends the name of the source with the roles of a cluster.
GLOBALS = "-globals"
#: The table of the settings of that source, which those of its cluster make.
ROLES = "globals"
#: The words of backup.order for all sources of a group.
DATABASES, FOLDERS = "databases", "folders"
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the catalog and the settings need to know of a kind. Its class in `sources` knows everything else."""

    #: DATABASES or FOLDERS: backed up together, and restored in one stage of a recovery.
    group: str
    #: Restored before the standard source of its stage.
    first: bool = False
    #: The table of its settings.
    table: str
    #: The table of refnet.toml to which a user adds one; "": the same.
    added_to: str = ""
    #: Whether it is the kind of that table that has a path and no URL.
    is_file: bool = False
    #: How the names of its artifacts end; the last ending is that of a partial one.
    endings: tuple[str, ...]
    #: How the names of its sources end.
    name_ends: str = ""
    #: The name of the source for a file of another program with one of these endings.
    stand_in: str = ""
    foreign: tuple[str, ...] = ()
    #: Whether its identity is the name of a database and its server; else it is a random id that this machine keeps.
    by_name: bool = False


class Kind(StrEnum):
    """The kind of a source, which decides how it is backed up, opened, proven and restored.

    A new kind is a row here, in the order of backups, and one in `sources/__init__.py`. The name of a file is that of
    the first kind that fits.
    """

    row: Row

    #: The roles and global objects of a server.
    GLOBALS = (
        "globals",
        Row(
            group=DATABASES,
            first=True,
            table=ROLES,
            added_to="clusters",
            endings=(".sql.gz", ".sql.gz.partial"),
            name_ends=GLOBALS,
        ),
    )
    DATABASE = (
        "database",
        Row(group=DATABASES, table="databases", endings=(".sql.gz", ".sql.gz.partial"), by_name=True),
    )
    FOLDER = (
        "folder",
        Row(
            group=FOLDERS,
            table="folders",
            endings=(".tar.gz",),
            stand_in="obsidian",
            foreign=(".tar.gz", ".tgz"),
        ),
    )
    #: A file of SQLite.
    SQLITE = (
        "SQLite database",
        Row(
            group=DATABASES,
            table="databases",
            is_file=True,
            endings=(".sqlite.gz",),
            stand_in="sqlite",
            foreign=(".sqlite.gz",),
        ),
    )

    def __new__(cls, called: str, row: Row) -> Self:
        made = str.__new__(cls, called)
        made._value_, made.row = called, row
        return made


def likely_kind(name: str, *, by_name: bool = True) -> Kind:
    """The kind of a source of which only the name is known, and whether its identity is one: see `Row.by_name`."""
    by_end = [kind for kind in Kind if kind.row.name_ends and name.endswith(kind.row.name_ends)]
    others = (kind for kind in Kind if not kind.row.name_ends and kind.row.by_name is by_name)
    return by_end[0] if by_end else next(others)


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
