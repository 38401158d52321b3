"""The artifacts of a store, and the choice of the newest, of one, of a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry
from refnet.recovery.model.checked import in_calendars
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.source_name import STANDARD, Kind, SourceName


@dataclass(frozen=True)
class Catalog:
    """The artifacts of a store, oldest first."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Catalog:
        return cls(tuple(sorted(entries, key=lambda e: (e.made, e.created, e.name))))

    def of_source(self, source: SourceName) -> tuple[Entry, ...]:
        return self._by_source.get((source, source.kind), ())

    @property
    def sources(self) -> tuple[SourceName, ...]:
        """The sources that have artifacts here, the standard ones first."""
        found = {entry.source: entry.source for entry in self.entries}
        return (
            *(one for one in STANDARD if one in found),
            *(one for one in found.values() if one not in STANDARD),
        )

    @cached_property
    def _by_source(self) -> Mapping[tuple[SourceName, Kind], tuple[Entry, ...]]:
        found: dict[tuple[SourceName, Kind], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.source, entry.source.kind), []).append(entry)
        return {source: tuple(entries) for source, entries in found.items()}

    def about(self, target: Identity | None, source: SourceName = SourceName.DATABASE) -> Catalog:
        """Return the artifacts of `source` that are of the database `target` (None: of any), and all of other sources.

        If no artifact of `source` names its database, all of them count for `target`.
        """
        if target is None or not any(entry.identity for entry in self.of_source(source)):
            return self
        return Catalog(tuple(e for e in self.entries if e.source != source or not _other(e, target)))

    def by_identity(self) -> Mapping[Identity | None, tuple[Entry, ...]]:
        """Return the artifacts by their database; None: files and unknown databases."""
        found: dict[Identity | None, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.identity, []).append(entry)
        return {identity: tuple(entries) for identity, entries in found.items()}

    def others(
        self, target: Identity | None, source: SourceName = SourceName.DATABASE
    ) -> tuple[Identity | None, ...]:
        """Return the databases of artifacts of `source` other than `target`; None is an unknown one."""
        if target is None or self.about(target, source) is self:
            return ()
        return tuple(dict.fromkeys(e.identity for e in self.of_source(source) if _other(e, target)))

    def choices(
        self,
        target: Identity | None,
        at: datetime | None = None,
        source: SourceName = SourceName.DATABASE,
    ) -> Catalog:
        """Return the artifacts that the newest one of the database `target` at or before `at` is chosen from.

        These are all of sources other than `source`, and the database's own artifacts; if there are none, those of a
        database of its name on another server; if no artifact names its database, all of them; never those of another
        name. `target` None (the settings name no database): those of the only name; RefnetError if there are several.
        """
        chosen = set(_choices(self.of_source(source), target, at))
        return Catalog(tuple(e for e in self.entries if e.source != source or e.name in chosen))

    def named(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def newest_complete(self, source: SourceName, at: datetime | None = None) -> Entry | None:
        """Return the newest artifact of `source` that is neither partial nor damaged.

        With `at`: the one with the latest snapshot at or before it.
        """
        return next(iter(self.complete(source, at)), None)

    def complete(self, source: SourceName, at: datetime | None = None) -> list[Entry]:
        """Return the artifacts of which `newest_complete` returns the first, in the order of its choice."""
        complete = [e for e in self.of_source(source) if e.complete and (at is None or e.created <= at)]
        if at is not None:
            complete.sort(key=lambda entry: entry.created)
        return complete[::-1]

    def oldest_complete(self, sources: Iterable[SourceName]) -> Entry | None:
        """Return the artifact of `sources` with the oldest snapshot that is neither partial nor damaged."""
        wanted = set(sources)
        complete = (e for e in self.entries if e.complete and e.source in wanted)
        return min(complete, key=lambda entry: entry.created, default=None)

    def set_at(
        self, at: datetime | None = None, sources: Iterable[SourceName] | None = None
    ) -> Mapping[SourceName, Entry]:
        """Return the set of `at`: the newest complete artifact at or before it of each source, or of `sources`."""
        found = {source: self.newest_complete(source, at) for source in sources or self.sources}
        return {source: entry for source, entry in found.items() if entry}


def _other(entry: Entry, target: Identity) -> bool:
    """Return whether `entry` is of a database other than `target`, or of an unknown one."""
    return entry.source.kind is Kind.DATABASE and not target.matches(entry.identity)


def _choices(there: tuple[Entry, ...], target: Identity | None, at: datetime | None) -> list[str]:
    """Return the names of the artifacts that Catalog.choices keeps; damaged and partial ones decide nothing."""
    complete = [e for e in there if e.complete and (at is None or e.created <= at)]
    names = tuple(dict.fromkeys(entry.identity.database for entry in complete if entry.identity))
    if target is None and len(names) > 1:
        raise RefnetError(
            f"the backup folder contains artifacts of several databases: {', '.join(sorted(names))}",
            "Set REFNET_DATABASE_URL to one of them, name an artifact that `refnet list` shows, or use --from-database NAME"
            " to restore or recover.",
            Exit.USAGE,
        )
    if not names:
        return [e.name for e in there if e.identity is None or target is None or target.matches(e.identity)]
    wanted = target or Identity(names[0])
    if not any(wanted.matches(entry.identity) for entry in complete):
        wanted = Identity(wanted.database)
    return [entry.name for entry in there if wanted.matches(entry.identity)]


def parse_time(text: str, zone: tzinfo | None) -> datetime:
    """Parse the TIME of a command line: an ISO date or date-time, in `zone` unless it has a time zone.

    A date alone means the end of that day.
    """
    try:
        moment = in_calendars(datetime.fromisoformat(text))
    except ValueError as error:
        raise RefnetError(
            f"'{text}' is not a time",
            "Use an ISO date or date-time: 2026-11-25, 2026-11-25T02:00 or 2026-11-25T02:00+09:00.",
            Exit.USAGE,
        ) from error
    if len(text) <= len("2026-11-25"):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone) if zone else moment.astimezone()
