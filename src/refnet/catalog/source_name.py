"""The names of sources, of the files of their artifacts, and of the backup folder among the stores.

A source's name is also a folder of the store, the prefix of artifacts, and a word on the command line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
#: Ends the name of the source with the base backups of a cluster.
CLUSTER = "-cluster"
#: The table of the settings of that source, which its cluster makes too.
BASES = "bases"
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
        "cluster",
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
        "update",
        "vault",
    ]
)


def wrong_name(name: str) -> str:
    """The reason why `name` is not a valid source name; "" if it is."""
    if not _NAME.fullmatch(name):
        return f"not a name of 1 to {LONGEST} of a-z, 0-9, _ and -, with a letter first"
    return f"{name} is a reserved word" if name in RESERVED else ""


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """What the catalog and the settings need to know of a kind. Its class in `sources` knows everything else."""

    #: DATABASES or FOLDERS: backed up together, and restored in one stage of a recovery.
    group: str
    #: Restored before the standard source of its stage.
    first: bool = False
    #: Backed up before the others of its group.
    early: bool = False
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
    #: Whether remote stores get more than its artifacts; see `Source.send_more`.
    sends_more: bool = False


class Kind(StrEnum):
    """The kind of a source, which decides how it is backed up, opened, proven and restored.

    A new kind is a row here, in the order of backups, and one in `sources/__init__.py`. The name of a file is that of
    the first kind that fits.
    """

    row: KindRow

    #: The roles and global objects of a server.
    GLOBALS = (
        "globals",
        KindRow(
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
        KindRow(group=DATABASES, table="databases", endings=(".sql.gz", ".sql.gz.partial"), by_name=True),
    )
    #: All files of a server, with its WAL: its base backups.
    CLUSTER = (
        "cluster",
        KindRow(
            group=DATABASES,
            early=True,  # so an artifact of a database is of a moment that it can be recovered to
            table=BASES,
            added_to="clusters",
            endings=(".base.tar.gz",),
            name_ends=CLUSTER,
            sends_more=True,
        ),
    )
    FOLDER = (
        "folder",
        KindRow(
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
        KindRow(
            group=DATABASES,
            table="databases",
            is_file=True,
            endings=(".sqlite.gz",),
            stand_in="sqlite",
            foreign=(".sqlite.gz",),
        ),
    )

    def __new__(cls, called: str, row: KindRow) -> Self:
        made = str.__new__(cls, called)
        made._value_, made.row = called, row
        return made


def likely_kind(name: str, *, by_name: bool = True) -> Kind:
    """The kind of a source of which only the name is known, and whether its identity is one: see `KindRow.by_name`."""
    by_end = [kind for kind in Kind if kind.row.name_ends and name.endswith(kind.row.name_ends)]
    others = (kind for kind in Kind if not kind.row.name_ends and kind.row.by_name is by_name)
    return by_end[0] if by_end else next(others)


#: What a name of a source may not contain.
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]")
_KINDS = {"database": Kind.DATABASE, "config": Kind.FOLDER, "obsidian": Kind.FOLDER}


class SourceName(str):
    """A valid source name, with its kind; ValueError for an invalid one."""

    __slots__ = ("kind",)

    kind: Kind
    DATABASE: ClassVar[SourceName]
    CONFIG: ClassVar[SourceName]
    OBSIDIAN: ClassVar[SourceName]

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


def globals_name(cluster: str) -> str:
    """Name of the source with the roles and tablespaces of `cluster`."""
    return f"{cluster}{GLOBALS}"


def bases_name(cluster: str) -> str:
    """Name of the source with the base backups of `cluster`."""
    return f"{cluster}{CLUSTER}"


def member_name(cluster: str, database: str) -> str:
    """Name of the source for `database`: CLUSTER-DATABASE, with a digest where that is not a valid name.

    It depends only on the two names, so it is the same on every machine.
    """
    plain = f"{cluster}-{database}"
    fits = len(plain) <= LONGEST and f"-{database}" not in {GLOBALS, CLUSTER}
    fits = fits and not _NOT_IN_NAMES.search(database)
    if fits and not re.search(r"-[0-9a-f]{8}$", plain):
        return plain
    digest = hashlib.sha256(database.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    start = f"{cluster}-{_NOT_IN_NAMES.sub('_', database.lower())}"[: LONGEST - 9]
    return f"{start}-{digest}"


def in_groups(names: Sequence[SourceName], order: Sequence[str]) -> list[tuple[SourceName, ...]]:
    """Split `names` into groups. A group is backed up in parallel, and one group after another, early kinds first.

    order: names of sources, `databases`, `folders`; unlisted sources come last, databases before folders.
    """
    entries = [*dict.fromkeys((*order, DATABASES, FOLDERS))]
    found = [
        tuple(one for one in names if one == entry or (one not in entries and one.kind.row.group == entry))
        for entry in entries
    ]
    split = (
        tuple(one for one in group if one.kind.row.early is early)
        for group in found
        for early in (True, False)
    )
    return [group for group in split if group]


#: Ends the name of an artifact with only some tables.
PARTIAL_SUFFIX = ".partial"


def artifact_names(source: SourceName, local: datetime, *, partial: bool = False) -> list[str]:
    """Return the names to try for an artifact of the local time `local`, best first; none is ever overwritten."""
    day, clock = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    stem = next((stem for stem, one in _STEMS.items() if one == source), str(source))
    stems = [f"{stem}_{day}"] if source in _BY_DAY else []
    stems += [f"{stem}_{day}_{clock}{'_tables' if partial else ''}"]
    stems += [f"{stems[-1]}_{number}" for number in range(2, 100)]
    end = source.kind.row.endings[-1 if partial else 0]
    return [f"{one}{end}" for one in stems]


def kind_of_file(name: str) -> Kind | None:
    """Return the kind of the source of the artifact `name`, by its ending; None if no artifact ends so."""
    return next(
        (kind for kind in Kind if name.endswith(kind.row.endings) and _STARTS[kind].match(name)), None
    )


#: How the name of an artifact of each kind starts: any name, unless those of its sources end in one way.
_STARTS = {
    kind: re.compile(rf"[a-z0-9_-]+{kind.row.name_ends}_\d{{8}}_" if kind.row.name_ends else "")
    for kind in Kind
}
_FILE_NAME = re.compile(
    r"(?P<stem>[a-z][a-z0-9_-]{0,39})_(?P<day>\d{8})(?:_(?P<clock>\d{6}))?(?P<tables>_tables)?(?:_\d{1,2})?"
    rf"(?P<end>{'|'.join(re.escape(kind.row.endings[0]) for kind in Kind)})(?:{re.escape(PARTIAL_SUFFIX)})?"
)
_STEMS = {"refnet": SourceName.DATABASE, "config": SourceName.CONFIG, "vault": SourceName.OBSIDIAN}
#: The sources whose first artifact of a day has no time in its name.
_BY_DAY = (SourceName.CONFIG, SourceName.OBSIDIAN)


@lru_cache(maxsize=1 << 15)  # a scan asks for each name several times
def read_file_name(name: str) -> tuple[SourceName, datetime] | None:
    """Return the source and the naive local time of an artifact's name; None if it is not such a name."""
    match = _FILE_NAME.fullmatch(name)
    if not match:
        return None
    day, clock = match["day"], match["clock"] or "000000"
    try:  # not strptime: a catalog of 10,000 is read before a scrape times out
        moment = datetime(  # noqa: DTZ001
            int(day[:4]), int(day[4:6]), int(day[6:]), int(clock[:2]), int(clock[2:4]), int(clock[4:])
        )
    except ValueError:
        return None
    stem, kind = match["stem"], kind_of_file(name)
    if stem in _STEMS:
        return _STEMS[stem], moment
    if not match["clock"] or kind is None or stem in STANDARD or match["end"] != kind.row.endings[0]:
        return None
    try:
        return named(stem, kind), moment
    except ValueError:
        return None
