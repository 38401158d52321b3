"""What a changed retention or schedule keeps: what `refnet prune` plans and simulates with it, in processes of its own.

Of a new source, which no command knows yet, the same function simulates in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fastapi import Request

from refnet import wiring
from refnet.catalog.retention import simulate
from refnet.core import checked
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.settings import Settings, variable
from refnet.settings.times import OFF
from refnet.settings.writable import Subject
from refnet.web import child_process
from refnet.web.pages.base import reading, short
from refnet.web.settings_file import Draft

#: The days after which it is looked what is kept, and the longest time of each process, in seconds.
DAYS, SECONDS = (30, 365), 60.0
#: A service of Compose would read its own settings.
_HERE = {variable("compose.service"): "none"}
_DECISION = checked.record(
    {
        "name": checked.text(300),
        "created": checked.moment,
        "size": checked.integer(0, 1 << 63),
        "keep": checked.flag,
        "reasons": checked.each(checked.text(1000), 100),
    },
    more=True,
)
_DECISIONS = checked.each(_DECISION, 100_000)
_PLAN = checked.record(
    {"sources": checked.each(checked.record({"artifacts": _DECISIONS}, more=True), 1000)},
    {"stores": checked.each(checked.record({"artifacts": _DECISIONS}, more=True), 100)},
    more=True,
)
_SIMULATED = checked.mapping(checked.text(100), _DECISIONS, 1000)


@dataclass(frozen=True)
class KeptAfter:
    """What is kept after some days, if every backup runs on time."""

    days: int
    count: int
    #: At the size of the newest artifact, in bytes; None: there is none yet.
    size: int | None
    #: Of the oldest one; None: there is none.
    oldest: datetime | None


@dataclass(frozen=True)
class Simulation:
    """What a draft keeps of one source or cluster."""

    kept: tuple[KeptAfter, ...]
    #: The artifacts that the next prune deletes now, and would delete with the draft: name → why.
    now: Mapping[str, str]
    then: Mapping[str, str]

    @property
    def more(self) -> dict[str, str]:
        """The artifacts that only the draft lets the next prune delete."""
        return {name: why for name, why in self.then.items() if name not in self.now}


async def simulation(request: Request, draft: Draft, subject: Subject) -> Simulation:
    """Simulate the draft for the source of `subject`; RefnetError if a command fails or takes too long."""
    if subject.is_new:
        kept_of_it = await reading(
            request, "the simulation", partial(kept_of_new, draft.found.settings, subject.source)
        )
        return Simulation(kept_of_it, {}, {})
    own = draft.found.settings.of(subject.source)
    tried = _HERE | {
        variable(subject.key_of("retention")): str(own.retention),
        variable(subject.key_of("schedule")): str(own.schedule or OFF),
    }
    words = ["prune", subject.source]
    plan = [*words, "--plan", "--store", "local", "--json"]
    now, then, *kept = await asyncio.gather(
        _printed(request, plan, _HERE),
        _printed(request, plan, tried),
        *(_printed(request, [*words, "--simulate", f"{days}d", "--json"], tried) for days in DAYS),
    )
    try:
        found = tuple(kept_of(days, said) for days, said in zip(DAYS, kept, strict=True))
        return Simulation(found, dict(deleted(now)), dict(deleted(then)))
    except ValueError:
        raise RefnetError("`refnet prune` printed no simulation", "Run it in a terminal.") from None


def kept_of_new(settings: Settings, name: str) -> tuple[KeptAfter, ...]:
    """What `settings` keep of a source without artifacts."""
    source, now = next(one for one in wiring.protected(settings) if one == name), utc_now()
    found = {
        days: simulate(
            source, (), wiring.retention(settings, source), settings.schedule, (now, now + timedelta(days))
        )
        for days in DAYS
    }
    return tuple(
        KeptAfter(days, len(kept), None, min((one.entry.created for one in kept), default=None))
        for days, kept in found.items()
    )


async def _printed(request: Request, words: list[str], variables: Mapping[str, str]) -> Any:
    said = await short(request, words, seconds=SECONDS, variables=variables)
    try:
        return child_process.printed(said.stdout)
    except ValueError:
        message = f"`refnet {' '.join(words[:2])}` ended with exit code {said.code}"
        raise said.error(message, "Run it in a terminal.") from None


def kept_of(days: int, values: Any) -> KeptAfter:
    """What `refnet prune --simulate --json` printed; ValueError for anything else."""
    kept = [one for listed in _SIMULATED(values).values() for one in listed]
    oldest = min((one["created"] for one in kept), default=None)
    return KeptAfter(days, len(kept), sum(one["size"] for one in kept), oldest)


def deleted(values: Any) -> Iterator[tuple[str, str]]:
    """Yield name and reason of each deletion that `refnet prune --plan --json` printed; ValueError for anything else."""
    found = _PLAN(values)
    for place in (*found["sources"], *found.get("stores", ())):
        for one in place["artifacts"]:
            if not one["keep"]:
                yield one["name"], "; ".join(one["reasons"])
