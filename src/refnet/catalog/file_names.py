"""The names of artifacts' files: what each says, and the names to try for a new one."""

import re
from datetime import datetime
from functools import lru_cache

from refnet.catalog.source_name import STANDARD, Kind, SourceName, named

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
_NAME = re.compile(
    r"(?P<stem>[a-z][a-z0-9_-]{0,39})_(?P<day>\d{8})(?:_(?P<clock>\d{6}))?(?P<tables>_tables)?(?:_\d{1,2})?"
    rf"(?:{'|'.join(re.escape(kind.row.endings[0]) for kind in Kind)})(?:{re.escape(PARTIAL_SUFFIX)})?"
)
_STEMS = {"refnet": SourceName.DATABASE, "config": SourceName.CONFIG, "vault": SourceName.OBSIDIAN}
#: The sources whose first artifact of a day has no time in its name.
_BY_DAY = (SourceName.CONFIG, SourceName.OBSIDIAN)


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
