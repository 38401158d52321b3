"""What a store holds, and what of it a command means: the newest, one at a time, a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, SourceName
from refnet.recovery.model.checked import in_calendars
from refnet.recovery.model.identity import Identity


@dataclass(frozen=True)
class Catalog:
    """The artifacts of a store, oldest first."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Catalog:
        return cls(tuple(sorted(entries, key=lambda e: (e.made, e.created, e.name))))

    def of_source(self, source: SourceName) -> tuple[Entry, ...]:
        return self._by_source[source]

    @cached_property
    def _by_source(self) -> Mapping[SourceName, tuple[Entry, ...]]:
        found: dict[SourceName, list[Entry]] = {source: [] for source in SourceName}
        for entry in self.entries:
            found[entry.manifest.source].append(entry)
        return {source: tuple(entries) for source, entries in found.items()}

    def about(self, target: Identity | None) -> Catalog:
        """What it holds of the database `target` (None: of any), beside all files.

        Where no artifact says whose it is, all of them count for `target`.
        """
        if target is None or not any(entry.identity for entry in self.entries):
            return self
        return Catalog(tuple(entry for entry in self.entries if not _other(entry, target)))

    def by_identity(self) -> Mapping[Identity | None, tuple[Entry, ...]]:
        """Its artifacts by whose data they hold; None: files, and databases that are not known."""
        found: dict[Identity | None, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.identity, []).append(entry)
        return {identity: tuple(entries) for identity, entries in found.items()}

    def others(self, target: Identity | None) -> tuple[Identity | None, ...]:
        """The databases other than `target` that it holds artifacts of; None among them: one that is not known."""
        if self.about(target) is self:
            return ()
        return tuple(dict.fromkeys(e.identity for e in self.entries if target and _other(e, target)))

    def choices(self, target: Identity | None, at: datetime | None = None) -> Catalog:
        """What "the newest" is chosen from for the database `target`, beside all files, at or before `at`.

        Its own artifacts; where there are none, those of a database of its name on another server; where no
        artifact says whose it is, all of them; never those of another name. `target` None, where the settings name
        no database: those of the only name there is; RefnetError where there are several.
        """
        there = self.of_source(SourceName.DATABASE)
        kept = set(_meant(there, target, at))
        return Catalog(
            tuple(e for e in self.entries if e.source is not SourceName.DATABASE or e.name in kept)
        )

    def named(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def newest_complete(self, source: SourceName, at: datetime | None = None) -> Entry | None:
        """The last made artifact of `source` that is neither partial nor damaged; with `at`, of those whose snapshot
        is at or before it, the one with the latest snapshot.
        """
        whole = [
            entry
            for entry in self.of_source(source)
            if not entry.manifest.partial and not entry.damaged and (at is None or entry.created <= at)
        ]
        if at is not None:
            whole.sort(key=lambda entry: entry.created)
        return whole[-1] if whole else None

    def oldest_whole(self, sources: Iterable[SourceName]) -> Entry | None:
        """The artifact of any of `sources` with the oldest snapshot that is neither partial nor damaged."""
        wanted = set(sources)
        whole = (e for e in self.entries if not e.manifest.partial and not e.damaged and e.source in wanted)
        return min(whole, key=lambda entry: entry.created, default=None)

    def set_at(self, at: datetime | None = None) -> Mapping[SourceName, Entry]:
        """Each source's newest whole artifact at or before `at`: the set of that moment."""
        found = {source: self.newest_complete(source, at) for source in SourceName}
        return {source: entry for source, entry in found.items() if entry}


def _other(entry: Entry, target: Identity) -> bool:
    """Whether `entry` is of a database other than `target`, or of one that is not known."""
    return entry.source is SourceName.DATABASE and not target.matches(entry.identity)


def _meant(there: tuple[Entry, ...], target: Identity | None, at: datetime | None) -> list[str]:
    """The names of those of `there` that Catalog.choices leaves; what is damaged or partial decides nothing."""
    whole = [e for e in there if not e.manifest.partial and not e.damaged and (at is None or e.created <= at)]
    names = tuple(dict.fromkeys(entry.identity.database for entry in whole if entry.identity))
    if target is None and len(names) > 1:
        raise RefnetError(
            f"the backup folder holds several databases: {', '.join(sorted(names))}",
            "Set REFNET_DATABASE_URL to the one that is meant, name an artifact that `refnet list` shows, or, to restore or"
            " recover, give --from-database NAME.",
            Exit.USAGE,
        )
    if not names:
        return [e.name for e in there if e.identity is None or target is None or target.matches(e.identity)]
    wanted = target or Identity(names[0])
    if not any(wanted.matches(entry.identity) for entry in whole):
        wanted = Identity(wanted.database)
    return [entry.name for entry in there if wanted.matches(entry.identity)]


def parse_time(text: str, zone: tzinfo | None) -> datetime:
    """The TIME of a command line: an ISO date or date-time, in `zone` unless it carries one.

    A date alone means the end of that day: what stood when it was over.
    """
    try:
        moment = in_calendars(datetime.fromisoformat(text))
    except ValueError as error:
        raise RefnetError(
            f"'{text}' is not a time",
            "Give an ISO date or date-time: 2026-11-25, 2026-11-25T02:00 or 2026-11-25T02:00+09:00.",
            Exit.USAGE,
        ) from error
    if len(text) <= len("2026-11-25"):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone) if zone else moment.astimezone()
