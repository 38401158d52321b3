"""The names of artifacts' files: what each says, and the names to try for a new one."""

import re
from datetime import datetime
from functools import lru_cache

from refnet.catalog.source_name import GLOBALS, STANDARD, Kind, SourceName, named

PARTIAL_SUFFIX = ".partial"


def artifact_names(source: SourceName, local: datetime, *, partial: bool = False) -> list[str]:
    """Return the names to try for an artifact of the local time `local`, best first; none is ever overwritten."""
    day, clock = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    if source.kind is Kind.DATABASE:
        stem = "refnet" if source == SourceName.DATABASE else str(source)
        end, first = ".sql.gz", f"{stem}_{day}_{clock}"
        if partial:
            first, end = f"{first}_tables", f".sql.gz{PARTIAL_SUFFIX}"
        stems = [first]
    elif source.kind in _ENDINGS:
        end, stems = _ENDINGS[source.kind], [f"{source}_{day}_{clock}"]
    else:
        stem, end = ("vault" if source == SourceName.OBSIDIAN else str(source)), ".tar.gz"
        stems = [f"{stem}_{day}"] if source in STANDARD else []
        stems += [f"{stem}_{day}_{clock}"]
    stems += [f"{stems[-1]}_{number}" for number in range(2, 100)]
    return [f"{one}{end}" for one in stems]


def kind_of_file(name: str) -> Kind | None:
    """Return the kind of the source of the artifact `name`, by its ending; None if no artifact ends so."""
    if name.endswith(".tar.gz"):
        return Kind.FOLDER
    if name.endswith(".sqlite.gz"):
        return Kind.SQLITE
    if not name.removesuffix(PARTIAL_SUFFIX).endswith(".sql.gz"):
        return None
    return Kind.GLOBALS if _OF_ROLES.match(name) else Kind.DATABASE


_OF_ROLES = re.compile(rf"[a-z0-9_-]+{GLOBALS}_\d{{8}}_")
_NAME = re.compile(
    r"(?P<stem>[a-z][a-z0-9_-]{0,39})_(?P<day>\d{8})(?:_(?P<clock>\d{6}))?(?P<tables>_tables)?(?:_\d{1,2})?"
    r"(?:\.sql\.gz|\.tar\.gz|\.sqlite\.gz)(?:\.partial)?"
)
_ENDINGS = {Kind.GLOBALS: ".sql.gz", Kind.SQLITE: ".sqlite.gz"}
_STEMS = {"refnet": SourceName.DATABASE, "config": SourceName.CONFIG, "vault": SourceName.OBSIDIAN}


@lru_cache(maxsize=1 << 15)  # a scan asks for each name several times
def read_file_name(name: str) -> tuple[SourceName, datetime] | None:
    """Return the source and the naive local time of an artifact's name; None if it is not such a name."""
    match = _NAME.fullmatch(name)
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
    if not match["clock"] or kind is None or stem in STANDARD:
        return None
    try:
        return named(stem, kind), moment
    except ValueError:
        return None
