"""The artifacts of a store, and how one or a set is chosen from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from functools import cached_property
from itertools import accumulate
from operator import ne

from refnet.catalog.identity import Identity, SourceId, Whose, labels
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import STANDARD, Kind, SourceName
from refnet.core.checked import in_calendars
from refnet.core.errors import Exit, RefnetError


@dataclass(frozen=True)
class Catalog:
    """The artifacts of a store, oldest first."""

    entries: tuple[Entry, ...]
    #: An artifact dated after it is chosen last; None: none is.
    now: datetime | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry], now: datetime | None = None) -> Catalog:
        """Catalog of `entries`, ordered by the numbers of their source, else by time."""
        return cls(_ordered(entries), now)

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

    def about(self, target: Whose | None, source: SourceName = SourceName.DATABASE) -> Catalog:
        """Catalog with only the artifacts of `source` that belong to `target` (None: any), and all of other sources.

        If no artifact of `source` has an identity, all belong to `target`; for kinds other than databases see `_own`.
        """
        there = self.of_source(source)
        if target is None or not any(entry.whose for entry in there):
            return self
        return self._only(source, _own(there, target))

    def by_identity(self) -> Mapping[Whose | None, tuple[Entry, ...]]:
        """Artifacts by identity; None: unknown.

        Artifacts of files without an identity are assigned to the identity of the others, if they have only one.
        """
        ids = {entry.whose for entry in self.entries if isinstance(entry.whose, SourceId)}
        only = next(iter(ids)) if len(ids) == 1 else None
        found: dict[Whose | None, list[Entry]] = {}
        for entry in self.entries:
            whose = entry.whose or (None if entry.manifest.of_database else only)
            found.setdefault(whose, []).append(entry)
        return {whose: tuple(entries) for whose, entries in found.items()}

    def others(
        self, target: Whose | None, source: SourceName = SourceName.DATABASE
    ) -> tuple[Whose | None, ...]:
        """Identities other than `target` with artifacts of `source`; None: unknown."""
        if target is None or self.about(target, source) is self:
            return ()
        own = {entry.name for entry in _own(self.of_source(source), target)}
        return tuple(dict.fromkeys(e.whose for e in self.of_source(source) if e.name not in own))

    def choices(
        self,
        target: Whose | None,
        at: datetime | None = None,
        source: SourceName = SourceName.DATABASE,
    ) -> Catalog:
        """Candidates for the newest artifact of `target` at or before `at`.

        These are all of sources other than `source`, and the own ones of `target`. Of a database that has none: those of
        a database of its name on another server; if no artifact names its database, all of them; never those of another
        name. `target` None (the settings name no database, this machine made no artifact): those of the only one;
        RefnetError if there are several.
        """
        there = self.of_source(source)
        if source.kind.row.by_name:
            own = continued(target, there) if isinstance(target, Identity) else None
            return self._only(source, _choices(there, own, at))
        if target is None and len(ids := {e.whose for e in there if e.whose and e.complete}) > 1:
            raise _several(source, [one for one in self.by_identity() if one in ids])
        return self.about(target, source)

    def _only(self, source: SourceName, chosen: Iterable[Entry]) -> Catalog:
        """Catalog in which `source` has only the artifacts `chosen`."""
        names = {entry.name for entry in chosen}
        return replace(self, entries=tuple(e for e in self.entries if e.source != source or e.name in names))

    def named(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def newest_complete(self, source: SourceName, at: datetime | None = None) -> Entry | None:
        """The newest complete artifact of `source`: neither partial nor damaged.

        With `at`: with the latest snapshot at or before it. Artifacts dated in the future are chosen last.
        """
        return next(iter(self.complete(source, at)), None)

    def complete(self, source: SourceName, at: datetime | None = None) -> list[Entry]:
        """Complete artifacts, newest first; artifacts dated in the future last."""
        complete = [e for e in self.of_source(source) if e.complete and (at is None or e.created <= at)]
        if at is not None:
            complete.sort(key=lambda entry: entry.created)
        if ahead := {entry.name for entry in self.ahead(source)}:
            complete.sort(key=lambda entry: entry.name not in ahead)
        return complete[::-1]

    def ahead(self, source: SourceName) -> tuple[Entry, ...]:
        """Artifacts of `source` dated in the future."""
        if self.now is None:
            return ()
        now = self.now
        return tuple(entry for entry in self.of_source(source) if entry.ahead(now))

    def notes(self, chosen: Entry) -> tuple[str, ...]:
        """Notes of a plan about artifacts dated in the future; `chosen` may be one."""
        ahead = {entry.name: entry for entry in self.ahead(chosen.source)}
        if chosen.name in ahead:
            return (
                f"{chosen.name} is dated in the future ({chosen.made:%Y-%m-%d %H:%M} UTC): is the clock right?",
            )
        return tuple(
            f"not chosen: {entry.name} is dated in the future ({entry.made:%Y-%m-%d %H:%M} UTC); name it to restore it"
            for entry in ahead.values()
            if entry.complete
        )

    def passed_over(self, chosen: Entry, at: datetime | None = None) -> tuple[str, ...]:
        """Notes of a plan about damaged artifacts newer than `chosen`, at or before `at`."""
        there = self.of_source(chosen.source)
        newer = there[[entry.name for entry in there].index(chosen.name) + 1 :]
        return tuple(
            f"not chosen: {entry.name} is newer, and damaged; `refnet verify {entry.name}` checks it again"
            for entry in newer
            if entry.damaged and not entry.manifest.partial and (at is None or entry.created <= at)
        )

    def oldest_complete(self, sources: Iterable[SourceName]) -> Entry | None:
        """The complete artifact of `sources` with the oldest snapshot."""
        wanted = set(sources)
        complete = (e for e in self.entries if e.complete and e.source in wanted)
        return min(complete, key=lambda entry: entry.created, default=None)

    def set_at(self, at: datetime | None = None) -> Mapping[SourceName, Entry]:
        """The set at `at`: the newest complete artifact at or before it of each source."""
        found = {source: self.newest_complete(source, at) for source in self.sources}
        return {source: entry for source, entry in found.items() if entry}


def kept_bytes(entries: Iterable[Entry]) -> int:
    """Return the size of `entries` on the disk, in bytes; artifacts of equal content share them."""
    return sum({entry.manifest.sha256: entry.manifest.size for entry in entries}.values())


def _ordered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """`entries`, oldest first.

    If times contradict the numbers of artifacts, a clock was wrong: as few times as possible are corrected, so one run
    with a wrong clock is sorted between its neighbours.
    """
    there = tuple(entries)
    times = _times(there)
    return tuple(
        sorted(there, key=lambda e: (times.get(id(e), e.made), e.manifest.number or 0, e.created, e.name))
    )


def _times(there: tuple[Entry, ...]) -> dict[int, datetime]:
    """Corrected time of each numbered artifact, by id of the object: times rise with the numbers."""
    # A database that continues one of another server goes on with its numbers.
    first = {
        entry.identity: replace(entry.identity, system=entry.manifest.continues[0])
        for entry in there
        if entry.identity and entry.manifest.continues
    }
    numbered: dict[tuple[SourceName, Whose | None], list[tuple[int, Entry]]] = {}
    for entry in there:
        if number := entry.manifest.number:
            whose = first.get(entry.identity, entry.whose) if entry.identity else entry.whose
            numbered.setdefault((entry.source, whose), []).append((number, entry))
    times: dict[int, datetime] = {}
    for own in numbered.values():
        entries = [entry for _, entry in sorted(own, key=lambda one: (one[0], one[1].made))]
        made = [entry.made for entry in entries]
        lowered, raised = [*accumulate(reversed(made), min)][::-1], [*accumulate(made, max)]
        is_behind = sum(map(ne, made, raised)) < sum(map(ne, made, lowered))
        times |= zip(map(id, entries), raised if is_behind else lowered, strict=True)
    return times


def _own(there: Sequence[Entry], target: Whose) -> list[Entry]:
    """The artifacts in `there`, all of one source, that belong to `target`.

    Artifacts of files without an identity belong to it, unless another identity has artifacts too.
    """
    if isinstance(target, Identity):
        own = continued(target, there)
        return [entry for entry in there if own.matches(entry.identity)]
    if {entry.whose for entry in there} <= {None, target}:
        return list(there)
    return [entry for entry in there if entry.whose == target]


def continued(target: Identity, there: Iterable[Entry]) -> Identity:
    """`target` with the servers that it continues, according to the manifests in `there`."""
    if target.system is None:
        return target
    after: dict[str, set[str]] = {}
    for entry in there:
        own = entry.identity
        if own and own.system and own.database == target.database and entry.manifest.continues:
            after.setdefault(own.system, set()).update(entry.manifest.continues)
    before, new = set[str](), {target.system, *target.before}
    while new:
        before |= new
        new = set[str]().union(*(after.get(system, ()) for system in new)) - before
    return replace(target, before=frozenset(before - {target.system}))


def _several(source: SourceName, there: Iterable[Whose | None]) -> RefnetError:
    return RefnetError(
        f"the store has artifacts of several sources {source}: {', '.join(labels(there).values())}",
        f"Give the name of an artifact; `refnet list {source}` shows them all.",
        Exit.USAGE,
    )


def _choices(there: tuple[Entry, ...], target: Identity | None, at: datetime | None) -> list[Entry]:
    """The artifacts of a database that Catalog.choices keeps; damaged and partial ones are ignored in the decision."""
    complete = [e for e in there if e.complete and (at is None or e.created <= at)]
    names = tuple(dict.fromkeys(entry.identity.database for entry in complete if entry.identity))
    if target is None and len(names) > 1:
        choose = (
            "Set REFNET_DATABASE_URL to one of them, n" if there[0].source == SourceName.DATABASE else "N"
        )
        raise RefnetError(
            f"the backup folder contains artifacts of several databases: {', '.join(sorted(names))}",
            f"{choose}ame an artifact that `refnet list` shows, or use --from-database NAME to restore or recover.",
            Exit.USAGE,
        )
    if not names:
        return [e for e in there if e.identity is None or target is None or target.matches(e.identity)]
    wanted = target or Identity(names[0])
    if not any(wanted.matches(entry.identity) for entry in complete):
        wanted = Identity(wanted.database)
    return [entry for entry in there if wanted.matches(entry.identity)]


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
