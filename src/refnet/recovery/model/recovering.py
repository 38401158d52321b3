"""Recovery in stages: their order, which of them run, and what an interrupted one remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import SourceName, utc


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
    """What a recovery remembers, so that the next run goes on: the set by file names, and the stages done."""

    began: datetime
    names: Mapping[SourceName, str]
    done: tuple[Stage, ...] = ()

    def with_done(self, stage: Stage) -> Journal:
        return replace(self, done=(*self.done, stage))

    def to_json(self) -> str:
        return (
            json.dumps({"began": utc(self.began), "names": dict(self.names), "done": list(self.done)}) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Journal | None:
        """The journal in `text`, or None where a crash left none that can be read."""
        try:
            values = json.loads(text)
            names = {SourceName(source): str(name) for source, name in values["names"].items()}
            done = tuple(Stage(one) for one in values["done"])
            return cls(datetime.fromisoformat(values["began"]), names, done)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def stages(journal: Journal | None, first: Stage | None, only: Stage | None) -> tuple[Stage, ...]:
    """The stages to run: `only` one, or from `first` on, or those that an interrupted recovery has left."""
    if only:
        return (only,)
    everything = tuple(Stage)
    if first:
        return everything[everything.index(first) :]
    return tuple(one for one in everything if not journal or one not in journal.done)
