"""The other inputs of the overview page: the scheduler, and changes of the settings file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refnet import wiring
from refnet.context import examine_settings
from refnet.scheduling.status import status
from refnet.settings import Examined, Settings, keys
from refnet.settings.problem import Problem
from refnet.settings.sources import SHORT


@dataclass(frozen=True)
class Surroundings:
    """The scheduler and the settings at one moment."""

    #: The warnings of `refnet schedule show`.
    warnings: tuple[str, ...] = ()
    #: Whether an active scheduler was found.
    scheduled: bool = True
    #: The first problem of the current settings; with a problem no command starts.
    problem: Problem | None = None
    #: The settings that have changed since the server was started.
    changed: tuple[str, ...] = ()


def surroundings(running: Settings, now: datetime) -> Surroundings:
    """Return scheduler and settings around a server that was started with the settings `running`."""
    found, schedule = examine_settings(running.variables), status(running, wiring.configured(running), now)
    return Surroundings(
        schedule.warnings,
        bool(schedule.in_force),
        found.problems[0] if found.problems else None,
        tuple(changed(running, found)),
    )


def changed(running: Settings, found: Examined) -> list[str]:
    """Return the keys and sources that differ from `running`, without invalid ones."""
    wrong = {problem.key for problem in found.problems}
    names = {key: each.name for key, each in keys().items() if key not in wrong} | {"stores": "stores"}
    now = found.settings
    values = [
        key
        for key, name in names.items()
        if getattr(now, name) != getattr(running, name) or now.says(key) != running.says(key)
    ]
    other = [] if wrong else sorted(_sources(running) ^ _sources(now))
    return [*dict.fromkeys((*values, *other))]


def _sources(settings: Settings) -> set[str]:
    """Return the keys of the sources and clusters in the settings, such as databases.shop."""
    own = {
        SHORT.get(name, f"{one.table}.{name}") for name, one in settings.sources.items() if not one.cluster
    }
    return own | {f"clusters.{name}" for name in settings.clusters}
