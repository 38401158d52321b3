"""Recovery in stages: their order and which run (`decide`), and the journal of what is done.

The journal is `recovery.json` in REFNET_HOME. It is written before each swap, after each source and after each stage, and read
by the next run. A complete recovery renames it to `recovered.json`, from which the next plan knows of it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import (
    DATABASES,
    FOLDERS,
    LONGEST,
    STANDARD,
    SourceName,
    kind_of_file,
    read_name,
)
from refnet.core import checked
from refnet.core.files import explained, read_regular, replace_file
from refnet.core.formatting import plural
from refnet.core.records import Layout, Most, Needed, Rare, Record


class Stage(StrEnum):
    """The stages, in order. After `config` the storage is started, after `vault` the application."""

    CONFIG = "config"
    DATABASE = "database"
    VAULT = "vault"
    BACKGROUND = "background"
    EDGE = "edge"
    CHECK = "check"


SAYS: Mapping[Stage, str] = {
    Stage.CONFIG: "restore the configuration, reload the settings, start the storage",
    Stage.DATABASE: "restore the database",
    Stage.VAULT: "restore the vault, start the application",
    Stage.BACKGROUND: "start the background services",
    Stage.EDGE: "start the edge and the monitoring",
    Stage.CHECK: "compare everything with the backup",
}
RESTORES: Mapping[Stage, SourceName] = {
    Stage.CONFIG: SourceName.CONFIG,
    Stage.DATABASE: SourceName.DATABASE,
    Stage.VAULT: SourceName.OBSIDIAN,
}


#: The group of the named sources that a stage restores with its own.
_GROUPS = {Stage.DATABASE: DATABASES, Stage.VAULT: FOLDERS}


def restored_in(stage: Stage, entries: Iterable[SourceName]) -> tuple[SourceName, ...]:
    """Sources restored in `stage`: roles, its standard source, then named ones of `entries`."""
    named = [one for one in entries if one not in STANDARD and one.kind.row.group == _GROUPS.get(stage)]
    first = [one for one in named if one.kind.row.first]
    rest = [one for one in named if not one.kind.row.first]
    return (*first, RESTORES[stage], *rest) if stage in RESTORES else ()


def _names(value: object) -> dict[SourceName, str]:
    texts = _TEXTS(value)
    return {read_name(source, kind_of_file(name)): name for source, name in texts.items()}


_SOURCE = checked.text(LONGEST)
_TEXTS = checked.mapping(_SOURCE, checked.text(255, like="[^/]+", errors="strict"), 1000)
_tokens = checked.mapping(_SOURCE, checked.text(100), 1000)
_Sources = Annotated[tuple[SourceName, ...], checked.several(_SOURCE, 1000)]


@dataclass(frozen=True)
class Journal(Record):
    """The progress of a recovery, which the next run continues."""

    LAYOUT = Layout(more=True)

    began: datetime
    #: The set, by file names.
    names: Annotated[Mapping[SourceName, str], _names]
    done: Needed[Annotated[tuple[Stage, ...], Most(100)]] = ()
    #: The restored sources; their stages may still wait for a service.
    restored: _Sources = ()
    #: Those of them whose hooks have not succeeded yet.
    hooks: _Sources = ()
    #: Sources whose swap was announced, and not recorded as restored: what tells the new version from the one before.
    swaps: Rare[Annotated[Mapping[SourceName, str], _tokens]] = field(default_factory=dict)
    #: Of the last record; None: written by a version without it, or just begun.
    at: Rare[datetime | None] = None

    def with_restored(self, source: SourceName, *, hooks: bool = False) -> Self:
        """The journal with a restored source; `hooks`: its later hooks have not run yet."""
        left = tuple(one for one in self.hooks if one != source)
        restored = dict.fromkeys((*self.restored, source))
        swaps = {one: token for one, token in self.swaps.items() if one != source}
        hooked = (*left, source) if hooks else left
        return replace(self, restored=tuple(restored), hooks=hooked, swaps=swaps)

    @property
    def back(self) -> tuple[SourceName, ...]:
        """The restored sources."""
        stages = (RESTORES[stage] for stage in self.done if stage in RESTORES)
        return tuple(dict.fromkeys((*stages, *self.restored)))

    def without(self, gone: Collection[SourceName]) -> Self:
        """The journal without the restores of the sources `gone`."""
        done = tuple(one for one in self.done if not {*restored_in(one, self.names)} & {*gone})
        restored, hooks = (tuple(o for o in these if o not in gone) for these in (self.restored, self.hooks))
        return replace(self, done=done, restored=restored, hooks=hooks)

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Keep restored sources that are standard or in the set."""
        sources = {str(one): one for one in (*STANDARD, *values["names"])}
        for key in ("restored", "hooks"):
            values[key] = tuple(sources[one] for one in values.get(key, ()) if one in sources)
        swaps = values.get("swaps", {})
        values["swaps"] = {sources[one]: token for one, token in swaps.items() if one in sources}
        return values


#: An interrupted recovery is continued until this long after its last record: that of a large server takes days.
_CONTINUE_WITHIN = timedelta(days=1)


def read_journal(path: Path, now: datetime) -> Journal | None:
    """Journal of an interrupted recovery; None: there is none that can be read, or its last record is more than a day old."""
    with suppress(OSError, ValueError):
        journal = Journal.from_json(read_regular(path, Journal.LAYOUT.longest))
        return journal if now - (journal.at or journal.began) < _CONTINUE_WITHIN else None
    return None


def recovered(path: Path) -> Path:
    """The journal of the last complete recovery, beside the journal `path` of one that is under way."""
    return path.with_name("recovered.json")


class JournalFile:
    """Writes the journal of a recovery as its sources and stages are done.

    path: called each time, as the restored configuration may name another REFNET_HOME; its folder exists.
    now: the time of each record.
    """

    def __init__(self, path: Callable[[], Path], journal: Journal, now: Callable[[], datetime]) -> None:
        self._path, self._journal, self._now = path, journal, now

    def begin(self) -> None:
        """Record that the recovery has begun."""
        self._write(self._journal)

    def swaps(self, source: SourceName, token: str) -> None:
        """Record, before its swap, that `source` is about to be replaced; see `Source.resumed`."""
        self._write(replace(self._journal, swaps={**self._journal.swaps, source: token}))

    def reopen(self, sources: Collection[SourceName]) -> None:
        """Record that the next run restores `sources` again."""
        self._write(self._journal.without(sources))

    def end(self) -> None:
        """Record that the recovery is complete: no run continues it."""
        self._write(self._journal)
        path = self._path()
        with explained(path):
            path.replace(recovered(path))

    def done(self, stage: Stage) -> None:
        self._write(replace(self._journal, done=(*self._journal.done, stage)))

    def takes(self, source: SourceName, name: str) -> None:
        """Record that `source` is restored from the artifact `name`."""
        self._write(replace(self._journal, names={**self._journal.names, source: name}))

    def restored(self, source: SourceName, *, hooks: bool) -> None:
        """Record a restored source; `hooks`: its later hooks have not run yet."""
        self._write(self._journal.with_restored(source, hooks=hooks))

    def _write(self, journal: Journal) -> None:
        journal = replace(journal, at=self._now())
        self._journal, path = journal, self._path()
        with explained(path.parent):
            replace_file(path, journal.to_json().encode())


@dataclass(frozen=True)
class Absent:
    """A source missing from a set."""

    why: str
    #: It was backed up, and no complete artifact is left.
    lost: bool
    #: The settings name it.
    named: bool = False


def absent(
    catalog: Catalog, moment: datetime | None, names: Sequence[SourceName] = STANDARD
) -> Mapping[SourceName, Absent]:
    """Missing from the set at `moment` (None: the newest): sources of `names`, and lost standard sources."""
    when = " of that time" if moment else ""
    found: dict[SourceName, Absent] = {}
    for source in dict.fromkeys((*names, *STANDARD)):
        entries = [e for e in catalog.of_source(source) if moment is None or e.created <= moment]
        damaged = sum(entry.damaged and not entry.manifest.partial for entry in entries)
        if catalog.newest_complete(source, moment) is None and (damaged or source in names):
            missing = (
                f"complete artifact{when}, {plural(damaged, 'damaged one')}" if damaged else f"artifact{when}"
            )
            found[source] = Absent(f"there is no {missing}", bool(damaged))
    return found


@dataclass(frozen=True)
class RecoveryPlan:
    """The plan of a recovery."""

    #: The set.
    entries: Mapping[SourceName, Entry]
    absent: Mapping[SourceName, Absent]
    stages: tuple[Stage, ...]
    #: The journal of an interrupted recovery of this set.
    left: Journal | None
    #: The sources that are restored already, and stay as they are.
    standing: tuple[SourceName, ...] = ()
    #: It continues `left`.
    resumed: bool = False
    #: The database that the user named as the one to restore.
    from_database: str | None = None
    #: Sources that the user left out.
    skipped: tuple[SourceName, ...] = ()
    #: The time of the set; None: the newest one.
    moment: datetime | None = None

    @property
    def missing(self) -> Mapping[SourceName, str]:
        """Reasons why sources of its stages will be missing: absent from the set, or left out."""
        there = {source: one.why for source, one in self.absent.items() if one.named and not one.lost}
        there |= dict.fromkeys(self.skipped, "left out by --skip")
        wanted = {one for stage in self.stages for one in restored_in(stage, there)}
        return {source: why for source, why in there.items() if source in wanted}

    @property
    def replacing(self) -> tuple[SourceName, ...]:
        """The sources that it would restore, in order."""
        wanted = (one for stage in self.stages for one in restored_in(stage, self.entries))
        return tuple(one for one in wanted if one in self.entries and one not in self.standing)

    def journal(self, now: datetime) -> Journal:
        """Return the journal at its beginning: stages that it does not run count as done."""
        names = {source: entry.name for source, entry in self.entries.items()}
        done = tuple(stage for stage in Stage if stage not in self.stages)
        hooks = tuple(one for one in self.left.hooks if one in self.standing) if self.left else ()
        swaps = (
            {one: token for one, token in self.left.swaps.items() if one in self.replacing}
            if self.left
            else {}
        )
        return Journal(self.left.began if self.left else now, names, done, self.standing, hooks, swaps)

    def with_artifact(self, source: SourceName, entry: Entry) -> Self:
        """The plan with `entry` as the artifact of `source`."""
        return replace(self, entries={**self.entries, source: entry})

    def without(self, skip: Collection[SourceName]) -> Self:
        """The plan without the sources `skip`."""
        entries = {source: one for source, one in self.entries.items() if source not in skip}
        missing = {source: one for source, one in self.absent.items() if source not in skip}
        standing = tuple(one for one in self.standing if one not in skip)
        wanted = (*self.entries, *(source for source, one in self.absent.items() if one.named or one.lost))
        skipped = tuple(one for one in wanted if one in skip)
        return replace(self, entries=entries, absent=missing, standing=standing, skipped=skipped)


def decide(
    catalog: Catalog,
    left: Journal | None,
    *,
    names: Sequence[SourceName] = STANDARD,
    moment: datetime | None = None,
    first: Stage | None = None,
    only: Stage | None = None,
) -> RecoveryPlan:
    """Plan a recovery: `only` one stage, from `first` on, or the rest of an interrupted one.

    Args:
        left: the journal of an interrupted recovery. Its set is used, as later backups may be of half a system, unless
            `moment` selects another set, or an artifact of it is missing or damaged.
        names: expected sources, in order of restore; others come last.
        moment: time of the set; None: the newest.
    """
    entries = catalog.set_at(moment)
    added: set[SourceName] = set()
    if left and (set_left := _complete_set(catalog, left)) and (moment is None or set_left == entries):
        added = {*entries} - {*set_left}  # an earlier run had left them out, or nothing to restore them from
        entries = {**entries, **set_left}
    else:
        left = None
    entries = {source: entries[source] for source in dict.fromkeys((*names, *entries)) if source in entries}
    missing = {s: one for s, one in absent(catalog, moment, names).items() if s not in entries}
    everything = tuple(Stage)
    if only or first:
        wanted = (only,) if only else everything[everything.index(first) :] if first else ()
        return RecoveryPlan(entries, missing, wanted, left, moment=moment)
    done, restored = (left.done, left.restored) if left else ((), ())
    wanted = tuple(one for one in everything if one not in done or added & {*restored_in(one, entries)})
    standing = tuple(one for stage in wanted for one in restored_in(stage, entries) if one in restored)
    return RecoveryPlan(entries, missing, wanted, left, standing, resumed=left is not None, moment=moment)


def _complete_set(catalog: Catalog, left: Journal) -> Mapping[SourceName, Entry] | None:
    """The set that `left` names; None if an artifact is missing or damaged."""
    named = {source: catalog.named(name) for source, name in left.names.items()}
    found = {source: entry for source, entry in named.items() if entry and not entry.damaged}
    return found if len(found) == len(named) else None
