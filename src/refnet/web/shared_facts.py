"""What the pages show of the backups: the overview, artifacts and copies, the scheduler, changes of the settings.

They are read in a thread at one moment, and shared by all requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from anyio import CapacityLimiter
from fastapi import Request
from markupsafe import Markup

from refnet import wiring
from refnet.actions.overview import overview_reader
from refnet.catalog.calendar import Calendar, Expected
from refnet.catalog.manifest import Entry
from refnet.catalog.remote import Copy
from refnet.catalog.remote_state import StoreState, is_missing
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.context import examine_settings
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.scheduling.status import status
from refnet.settings import Examined, Settings, keys
from refnet.settings.problem import Problem
from refnet.settings.sources import SHORT
from refnet.telemetry.facts import Facts, Overview, unreadable
from refnet.web.answers import SECONDS, threaded, within

#: The shortest time between the beginnings of two overviews, and how old the last one is shown meanwhile, in seconds.
PAUSE, OLDEST = 2.0, 5.0
#: The time between two checks of scheduler and settings, in seconds: systemd is asked for each timer.
AROUND = 20.0
#: The greatest share of one processor for overviews: Python runs one thread at a time, and pages wait for it.
SHARE = 0.1
#: How much longer than the last reading the next one may take.
_NEXT = 1.3
#: Rendered pages that all sessions share, by what they depend on.
SharedPages = dict[tuple[str, ...], str]
#: Source, name and SHA-256 of an artifact, the same for its copies.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class CopyPlace:
    """An artifact in one store."""

    #: The state of the copy; or `missing` (a required copy), `none`, `unknown` (the store cannot be listed).
    state: str
    #: The end of the lock against deletion that the store was asked for, of the object that is free first; None: no lock, or
    #: it has ended.
    locked: datetime | None = None
    copy: Copy | None = None


@dataclass(frozen=True)
class Artifacts:
    """All artifacts and copies at one moment."""

    settings: Settings
    facts: Facts
    _calendars: dict[tuple[str, str], Calendar] = field(default_factory=dict)

    @cached_property
    def stores(self) -> Mapping[str, StoreState]:
        """The remote stores by name."""
        return {one.name: one for one in self.facts.stores if one.name != LOCAL}

    @cached_property
    def here(self) -> Mapping[Key, Entry]:
        """The artifacts in the backup folder, by key."""
        return {_key(one): one for one in self.facts.catalog.entries}

    @cached_property
    def copies(self) -> Mapping[str, Mapping[Key, Copy]]:
        """Store → key → copy; of several copies of an artifact, the best one."""
        return {
            name: {_key(one): one for one in reversed(state.copies)} for name, state in self.stores.items()
        }

    @cached_property
    def all(self) -> tuple[Entry, ...]:
        """Every artifact anywhere, newest first: from the backup folder, else from a store."""
        found: dict[Key, Entry] = {}
        for copies in self.copies.values():
            found |= copies
        found |= self.here
        return tuple(sorted(found.values(), key=lambda one: (one.made, one.name), reverse=True))

    @cached_property
    def sources(self) -> tuple[SourceName, ...]:
        """The configured sources and all others with artifacts anywhere, in the order of the settings."""
        there = {one.source: one.source for one in self.all}
        own = [one for one in self.facts.sources if one in there or one in self.facts.configured]
        return (*own, *sorted(one for one in there if one not in own))

    def of(self, source: SourceName, store: str) -> tuple[Entry, ...]:
        """Return the artifacts of `source` in the backup folder (`store` ""), or its copies in a store."""
        if not store:
            return self.facts.catalog.of_source(source)
        return tuple(one for one in self.copies[store].values() if one.source == source)

    def find(self, source: str, name: str) -> tuple[Entry, str]:
        """Return an artifact and its store ("": the backup folder); RefnetError if it is not found."""
        for store in ("", *self.stores):
            there = self.here if not store else self.copies[store]
            found = [one for key, one in there.items() if key[:2] == (source, name)]
            if found:
                return found[0], store
        unseen = [one for one, state in self.stores.items() if state.trouble]
        hint = (
            f"It may be in {', '.join(unseen)}, which cannot be listed."
            if unseen
            else "Prune may have deleted it."
        )
        raise RefnetError(f"{source}: there is no artifact {name[:100]}", hint, Exit.USAGE)

    def places(self, entry: Entry) -> dict[str, CopyPlace]:
        """Return remote store → the copy of `entry` there."""
        return {name: self._place(entry, name, state) for name, state in self.stores.items()}

    def _place(self, entry: Entry, name: str, state: StoreState) -> CopyPlace:
        if copy := self.copies[name].get(_key(entry)):
            days = self.settings.stores[name].lock
            until = state.locked_until(copy, timedelta(days=days)) if days else None
            return CopyPlace(copy.state, until if until and until > self.facts.now else None, copy)
        if state.trouble:
            return CopyPlace("unknown")
        newest = self.facts.own.newest_complete(entry.source) if entry.source in state.sources else None
        return CopyPlace("missing" if newest is entry and is_missing(state, newest) else "none")

    def calendar(self, source: SourceName, store: str) -> Calendar:
        """Return the calendar of `source` in the backup folder, or in `store`."""
        key = (source, store)
        if key not in self._calendars:
            made = Calendar.of(self.of(source, store), self.expected(source, store), self.facts.now)
            self._calendars[key] = made
        return self._calendars[key]

    def expected(self, source: SourceName, store: str) -> Expected:
        """Return the schedule of `source`, and its retention in the backup folder or in `store`."""
        schedule = self.facts.schedule
        when = schedule.times.get(source) or schedule.times.get(schedule.clusters.get(source, ""))
        return Expected(when, schedule.zone, self.retention(source, store))

    def retention(self, source: SourceName, store: str) -> Retention | None:
        """Return the retention of `source` in the backup folder or in `store`; None if the settings name none."""
        own = self.settings.stores[store].retention.of(source) if store else None
        if own or source not in self.facts.sources:
            return own
        return wiring.retention(self.settings, source)


def _key(entry: Entry) -> Key:
    return entry.source, entry.name, entry.manifest.sha256


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
        tuple(changed_keys(running, found)),
    )


def changed_keys(running: Settings, found: Examined) -> list[str]:
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


@dataclass
class LastOverview:
    """An overview, the artifacts that it is of, and its rendered HTML by language."""

    overview: Overview
    #: None: they cannot be read, see the overview.
    artifacts: Artifacts | None
    around: Surroundings = Surroundings()
    parts: dict[str, Markup] = field(default_factory=dict)
    pages: SharedPages = field(default_factory=dict)

    def found(self) -> Artifacts:
        """Return the artifacts; RefnetError if they cannot be read."""
        if self.artifacts is None:
            raise self.overview.trouble or RefnetError("the backup folder cannot be read", "Retry.")
        return self.artifacts


class Overviews:
    """The overview of one server: computed by one thread, while requests get the last one."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self._look, self._now = overview_reader(settings, now), now
        self._thread = CapacityLimiter(1)
        self._seen: LastOverview | None = None
        self._making: asyncio.Task[LastOverview] | None = None
        self._until = self._due = 0.0
        self._settings, self._around, self._around_until = settings, Surroundings(), 0.0

    async def latest(self) -> LastOverview:
        """Return an overview of 5 s ago at most, or of longer ago if reading takes as long, or more than SHARE.

        RefnetError if computing it takes longer than 30 s.
        """
        now = time.monotonic()
        if self._making is None:
            if self._seen and now < self._due:
                return self._seen
            self._making = asyncio.create_task(self._make())
        if self._seen and now < self._until:
            return self._seen
        return await within(SECONDS, "the backup folder", asyncio.shield(self._making))

    async def _make(self) -> LastOverview:
        """Read the overview in the thread, and keep it until it is due again."""
        begun, busy = time.monotonic(), 0.0
        try:
            found, busy = await threaded(self._read, self._thread)
            there = Artifacts(self._settings, found.facts) if found.facts else None
            self._seen = LastOverview(found, there, self._around)
            return self._seen
        finally:
            self._making = None
            self._due = begun + max(PAUSE, busy / SHARE)
            took = time.monotonic() - begun
            # A catalog that takes longer to read is shown until the next overview can be there.
            self._until = begun + max(OLDEST, _NEXT * busy / SHARE, 2 * _NEXT * took if took >= OLDEST else 0)

    def _read(self) -> tuple[Overview, float]:
        """Return the overview, and the processor time that it took, in seconds. It runs in the thread."""
        begun = time.thread_time()
        try:
            found = self._look()
            if (now := time.monotonic()) >= self._around_until:
                self._around = surroundings(self._settings, self._now())
                self._around_until = now + AROUND
        except RefnetError as error:
            found = unreadable(self._now(), error)
        return found, time.thread_time() - begun


async def artifacts(request: Request) -> Artifacts:
    """Return all artifacts and copies of the last overview; RefnetError if they cannot be read."""
    seen: LastOverview = await request.app.state.overviews.latest()
    return seen.found()
