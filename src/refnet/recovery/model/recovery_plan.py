"""Recovery in stages: their order, which of them run, and what an interrupted one remembers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from refnet.errors import Exit, RefnetError
from refnet.recovery.model import checked
from refnet.recovery.model.artifact import Entry, SourceName, utc
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.formatting import plural


class Stage(StrEnum):
    """The stages, in order. After `config` the storage is started, after `vault` the application."""

    CONFIG = "config"
    DATABASE = "database"
    VAULT = "vault"
    BACKGROUND = "background"
    EDGE = "edge"
    CHECK = "check"


SAYS: Mapping[Stage, str] = {
    Stage.CONFIG: "bring back the configuration, read the settings again, start the storage",
    Stage.DATABASE: "bring back the database",
    Stage.VAULT: "bring back the vault, start the application",
    Stage.BACKGROUND: "start the background services",
    Stage.EDGE: "start the edge and the monitoring",
    Stage.CHECK: "compare all of it with what was backed up",
}
RESTORES: Mapping[Stage, SourceName] = {
    Stage.CONFIG: SourceName.CONFIG,
    Stage.DATABASE: SourceName.DATABASE,
    Stage.VAULT: SourceName.OBSIDIAN,
}


def stage(text: str) -> Stage:
    """The stage that a command line names."""
    try:
        return Stage(text)
    except ValueError:
        raise RefnetError(
            f"'{text}' is not a stage", f"The stages are: {', '.join(Stage)}.", Exit.USAGE
        ) from None


@dataclass(frozen=True)
class Journal:
    """What a recovery remembers, so that the next run goes on: the set by file names, what of it is back already
    (its stage may still wait for a service), and the stages done.
    """

    began: datetime
    names: Mapping[SourceName, str]
    done: tuple[Stage, ...] = ()
    restored: tuple[SourceName, ...] = ()

    def with_done(self, stage: Stage) -> Journal:
        return replace(self, done=(*self.done, stage))

    def with_restored(self, source: SourceName) -> Journal:
        return replace(self, restored=(*self.restored, source))

    @property
    def back(self) -> tuple[SourceName, ...]:
        """What has been brought back."""
        stages = (RESTORES[stage] for stage in self.done if stage in RESTORES)
        return tuple(dict.fromkeys((*stages, *self.restored)))

    def without(self, gone: Collection[SourceName]) -> Journal:
        """The journal as if the sources `gone` had not been brought back."""
        done = tuple(stage for stage in self.done if RESTORES.get(stage) not in gone)
        return replace(self, done=done, restored=tuple(one for one in self.restored if one not in gone))

    def to_json(self) -> str:
        values = {
            "began": utc(self.began),
            "names": dict(self.names),
            "done": list(self.done),
            "restored": list(self.restored),
        }
        return json.dumps(values) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Journal | None:
        """The journal in `text`, or None where a crash left none that can be read."""
        try:
            values = _JOURNAL(checked.document(text))
        except ValueError:
            return None
        return cls(values["began"], values["names"], tuple(values["done"]), tuple(values.get("restored", ())))


_JOURNAL = checked.record(
    {
        "began": checked.moment,
        "names": checked.mapping(
            checked.member(SourceName), checked.text(255, like="[^/]+", errors="strict"), 100
        ),
        "done": checked.each(checked.member(Stage), 100),
        "restored": checked.each(checked.member(SourceName), 100),
    },
    may_lack=("restored",),
    more=True,
)


@dataclass(frozen=True)
class Absent:
    """Why a source is not in the set. `lost`: it was backed up, and nothing whole of it is left."""

    why: str
    lost: bool


def absent(catalog: Catalog, moment: datetime | None) -> Mapping[SourceName, Absent]:
    """The sources of which the set of `moment` (None: the newest) holds nothing."""
    when = " of that time" if moment else ""
    found: dict[SourceName, Absent] = {}
    for source in SourceName:
        entries = [e for e in catalog.of_source(source) if moment is None or e.created <= moment]
        damaged = sum(entry.damaged and not entry.manifest.partial for entry in entries)
        if catalog.newest_complete(source, moment) is None:
            whole = (
                f"whole artifact{when}, {plural(damaged, 'damaged one')}" if damaged else f"artifact{when}"
            )
            found[source] = Absent(f"there is no {whole}", bool(damaged))
    return found


@dataclass(frozen=True)
class Plan:
    """What a recovery would do.

    `entries`: the set. `absent`: why it lacks a source. `left`: what an interrupted recovery of this set has left.
    `standing`: what of the set is back already, and is left as it is now. `resumed`: it goes on with `left`.
    `from_database`: the database that the user has named as the one to bring back.
    """

    entries: Mapping[SourceName, Entry]
    absent: Mapping[SourceName, Absent]
    stages: tuple[Stage, ...]
    left: Journal | None
    standing: tuple[SourceName, ...] = ()
    resumed: bool = False
    from_database: str | None = None

    @property
    def replacing(self) -> tuple[SourceName, ...]:
        """The sources that it would bring back, in order."""
        wanted = (RESTORES[stage] for stage in self.stages if stage in RESTORES)
        return tuple(one for one in wanted if one in self.entries and one not in self.standing)

    def journal(self, now: datetime) -> Journal:
        """What is remembered from its beginning on: stages that it does not run count as done."""
        names = {source: entry.name for source, entry in self.entries.items()}
        done = tuple(stage for stage in Stage if stage not in self.stages)
        return Journal(self.left.began if self.left else now, names, done, self.standing)


def decide(
    catalog: Catalog,
    left: Journal | None,
    *,
    moment: datetime | None = None,
    first: Stage | None = None,
    only: Stage | None = None,
) -> Plan:
    """What a recovery does: `only` one stage, or from `first` on, or what an interrupted one has left.

    Args:
        left: the journal of an interrupted recovery. Its set is gone on with, as what has been backed up since may
            be half a system; unless `moment` means another set, or an artifact of it is gone or damaged.
        moment: the set of this time; None: the newest.
    """
    entries = catalog.set_at(moment)
    if left and (set_left := _whole(catalog, left)) and (moment is None or set_left == entries):
        entries = set_left
    else:
        left = None
    missing = {source: one for source, one in absent(catalog, moment).items() if source not in entries}
    everything = tuple(Stage)
    if only or first:
        wanted = (only,) if only else everything[everything.index(first) :] if first else ()
        return Plan(entries, missing, wanted, left)
    done, restored = (left.done, left.restored) if left else ((), ())
    wanted = tuple(one for one in everything if one not in done)
    standing = tuple(RESTORES[stage] for stage in wanted if RESTORES.get(stage) in restored)
    return Plan(entries, missing, wanted, left, standing, resumed=left is not None)


def _whole(catalog: Catalog, left: Journal) -> Mapping[SourceName, Entry] | None:
    """The set that `left` names, or None where not all of it is there and whole."""
    named = {source: catalog.named(name) for source, name in left.names.items()}
    found = {source: entry for source, entry in named.items() if entry and not entry.damaged}
    return found if len(found) == len(named) else None
