"""Decides which artifacts are kept, and why, before anything is deleted.

An artifact's age is counted from the later of its snapshot and its publication. Counts (daily, weekly …) choose the
best artifact of each non-empty period, newest periods first, as restic does; keep-last counts the newest artifacts. A
pinned artifact is kept. Regardless of the settings, a source keeps its last proven complete artifact and its newest
complete one. Each database is counted separately.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import before_window, broken, needed_by
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome, utc
from refnet.catalog.remote import Copy
from refnet.catalog.schedule import Retention, Schedule
from refnet.catalog.source_name import SourceName, artifact_names
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural

#: The days whose artifacts a prune deletes at once without a question.
MOST_DAYS = 3


@dataclass(frozen=True)
class Decision:
    """The decision about an artifact, and its reasons."""

    entry: Entry
    keep: bool
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "database": self.entry.identity.database if self.entry.identity else None,
            "created": utc(self.entry.created),
            "size": self.entry.manifest.size,
            "keep": self.keep,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class PreviousVersion:
    """A database or a folder that a restore replaced."""

    source: SourceName
    #: A description.
    what: str
    #: The time of the restore.
    since: datetime
    #: Deletes it.
    remove: Callable[[], None]
    #: Why it cannot be removed after its time; "" if it can.
    blocked: str = ""
    #: The live database, with its server, or the live folder.
    of: str = ""
    #: In bytes; None: it takes long to find out.
    size: int | None = None
    #: True for the copy of a killed run, which never was live: it is due at once.
    half_made: bool = False

    def to_json(self) -> dict[str, Any]:
        why = {"why": self.blocked} if self.blocked else {}
        half = {"half_made": True} if self.half_made else {}
        return {"what": self.what, "of": self.of, "since": utc(self.since), "size": self.size, **half, **why}

    def due(self, now: datetime, keep: timedelta) -> bool:
        """Whether it is older than `keep`, or incomplete."""
        return self.half_made or now - self.since > keep


@dataclass(frozen=True)
class Outlived:
    """What a source keeps beside its artifacts, and none of them needs any more."""

    source: SourceName
    #: A description.
    what: str
    #: In bytes.
    size: int
    #: The days of base backups that it led on from.
    days: frozenset[date]
    #: Deletes it.
    remove: Callable[[], object]

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "size": self.size}


#: Lists the previous versions of a source; RefnetError if that fails (the server is down).
Listing = Callable[[], Iterable[PreviousVersion]]


def decide(
    entries: Iterable[Entry],
    retention: Retention,
    now: datetime,
    zone: ZoneInfo | None,
    stored: Mapping[str, datetime] | None = None,
) -> tuple[Decision, ...]:
    """Decide about each of `entries`, the artifacts of one source, oldest first.

    Args:
        now: aware; an artifact dated in the future (a clock that jumped) is kept until then.
        zone: the time zone of days, weeks, months and years; None: the machine's.
        stored: names of artifacts → when each came into its store, by the clock of that store's server; an age is
            counted from then if that is later.
    """
    ordered = Catalog.of(entries).entries
    since = {entry.name: max(entry.made, (stored or {}).get(entry.name, entry.made)) for entry in ordered}
    reasons: dict[str, list[str]] = {
        entry.name: [
            *filter(None, [entry.marks.pin(now, zone)]),
            *_by_age(since[entry.name], retention, now),
        ]
        for entry in ordered
    }
    unusable = broken(ordered)  # it replaces no other one
    for one in Catalog(ordered).by_identity().values():
        own = tuple(entry for entry in one if entry.name not in unusable) or one
        rules = (*_last_ones(own, now), *_before_shrinking(own), *_counted(own, retention, now, zone))
        for name, reason in (*rules, *_before_days(own, retention, now)):
            reasons[name].append(reason)
    kept = [entry for entry in ordered if reasons[entry.name]]
    for name, child in needed_by(kept, ordered).items():
        reasons[name].append(f"{child} was made from it")
    return tuple(
        Decision(entry, True, tuple(reasons[entry.name]))
        if reasons[entry.name]
        else Decision(entry, False, (_why_not(entry, retention, now - since[entry.name]),))
        for entry in ordered
    )


def decide_copies(
    copies: Iterable[Copy],
    retention: Retention,
    now: datetime,
    zone: ZoneInfo | None,
    stored: Mapping[str, datetime],
    marks: Mapping[str, Marks],
) -> tuple[Decision, ...]:
    """Decide about each of `copies`, those of one source, as `decide` does; the newest that was read back is kept too.

    An age counts from the latest of three times, as one clock may be wrong: of the artifact, of the sending, and of the
    bucket's server. Only copies whose manifest can be trusted are given here, so a bogus newer one pushes nothing out.

    Args:
        stored: object of a manifest → when it was created, by the clock of the bucket's server.
        marks: SHA-256 of an artifact → its marks in the backup folder; while it is pinned there, its copies are kept.
    """
    marked = [replace(one, marks=marks.get(one.manifest.sha256, one.marks)) for one in copies]
    since: dict[str, datetime] = {}
    for one in marked:
        moment = max(one.document.sent, stored.get(one.object, one.document.sent))
        since[one.name] = max(since.get(one.name, moment), moment)
    last = {one.object for own in Catalog.of(marked).by_identity().values() for one in _last_fetched(own)}
    return tuple(
        replace(one, keep=True, reasons=(*(one.reasons if one.keep else ()), "the newest that was read back"))
        if isinstance(one.entry, Copy) and one.entry.object in last
        else one
        for one in decide(marked, retention, now, zone, since)
    )


def _last_fetched(ordered: Iterable[Entry]) -> list[Copy]:
    """The newest complete copy that was read back, as a list of at most one."""
    found = [one for one in ordered if isinstance(one, Copy) and one.complete and one.was_fetched]
    return found[-1:]


def too_much(
    deleted: Iterable[Decision], now: datetime, outlived: Iterable[Outlived] = ()
) -> RefnetError | None:
    """Error (CONFIRM) if a source would lose the artifacts, or the WAL, of more than MOST_DAYS days; else None.

    A nightly prune deletes one day's artifacts; after a clock jump it would delete all but the last.
    """
    days: dict[SourceName, list[date]] = {}
    for one in deleted:
        days.setdefault(one.entry.source, []).append(one.entry.made.astimezone(UTC).date())
    led = {one.source: one.days for one in outlived}
    every = {source: {*days.get(source, ())} | led.get(source, frozenset()) for source in {*days, *led}}
    much = {source: found for source, found in every.items() if len(found) > MOST_DAYS}
    if not much:
        return None
    count = sum(len(days.get(source, ())) for source in much)
    artifacts = [plural(count, "artifact")] if count else []
    what = " and ".join([*artifacts, *(["WAL"] if {*led} & {*much} else [])])
    return RefnetError(
        f"prune would delete {what} of {', '.join(sorted(much))} at once, of {len(set().union(*much.values()))} days:"
        f" is it really {now:%Y-%m-%d}?",
        "Nothing of it was deleted. Check it with `refnet prune --plan`, then use --force.",
        Exit.CONFIRM,
    )


def needed(entries: Iterable[Entry], now: datetime) -> dict[str, str]:
    """Artifacts of one source kept regardless of the settings: name → reason."""
    found: dict[str, str] = {}
    there = tuple(entries)
    unusable = broken(there)
    for one in Catalog.of(there).by_identity().values():
        own = tuple(entry for entry in one if entry.name not in unusable) or one
        for name, reason in (*_last_ones(own, now), *_before_shrinking(own)):
            found.setdefault(name, reason)
    for name, child in needed_by([one for one in there if one.name in found], there).items():
        found.setdefault(name, f"{child} was made from it")
    return found


def _by_age(since: datetime, retention: Retention, now: datetime) -> list[str]:
    if since > now:
        return ["dated in the future"]
    return [f"younger than {_days(retention.days)}"] if now - since <= timedelta(days=retention.days) else []


def _last_ones(ordered: tuple[Entry, ...], now: datetime) -> list[tuple[str, str]]:
    """Artifacts kept at any age; after a clock jump, also the last one not dated in the future."""
    found: list[tuple[str, str]] = []
    for candidates in (ordered, tuple(entry for entry in ordered if entry.made <= now)):
        proven = [entry for entry in candidates if entry.proven and entry.complete]
        complete = [entry for entry in candidates if entry.complete]
        found += [(entry.name, "the last proven one") for entry in proven[-1:]]
        before = [entry for entry in complete if entry.proven_before]
        found += [(entry.name, "the last one proven before it was encrypted") for entry in before[-1:]]
        found += [(entry.name, "the newest complete one") for entry in complete[-1:]]
        if not complete:
            found += [(entry.name, "there is no complete one") for entry in candidates[-1:]]
    return list(dict.fromkeys(found))


def _before_shrinking(ordered: tuple[Entry, ...]) -> list[tuple[str, str]]:
    """For each unaccepted shrunk artifact, the last proven one before it, else the last complete one."""
    found: dict[str, str] = {}
    proven: Entry | None = None
    complete: Entry | None = None
    for entry in ordered:
        if entry.shrunk:
            if last := proven or complete:
                found.setdefault(last.name, f"the last one before {entry.name} shrank")
        elif entry.complete:
            complete = entry
            proven = entry if entry.proven else proven
    return list(found.items())


def _counted(
    ordered: tuple[Entry, ...], retention: Retention, now: datetime, zone: ZoneInfo | None
) -> list[tuple[str, str]]:
    """The newest artifacts, and the best one (proven first) of each of the newest non-empty periods."""
    periods: tuple[tuple[str, int, str], ...] = (
        ("daily", retention.daily, "%Y-%m-%d"),
        ("weekly", retention.weekly, "%G-W%V"),
        ("monthly", retention.monthly, "%Y-%m"),
        ("yearly", retention.yearly, "%Y"),
    )
    candidates = [entry for entry in ordered if entry.complete and entry.made <= now]
    last = candidates[-retention.keep_last :] if retention.keep_last else []
    found = [(entry.name, f"one of the last {retention.keep_last}") for entry in last]
    for word, count, pattern in (period for period in periods if period[1]):
        best: dict[str, Entry] = {}
        for entry in candidates:
            period = entry.made.astimezone(zone).strftime(pattern)
            if period not in best or entry.proven or not best[period].proven:
                best[period] = entry
        newest = sorted(best.items(), key=lambda item: item[1].made, reverse=True)[:count]
        found += [(entry.name, f"{word}: {period}") for period, entry in newest]
    return found


def _before_days(ordered: tuple[Entry, ...], retention: Retention, now: datetime) -> list[tuple[str, str]]:
    """Of base backups the one from which all moments that are young enough can be recovered."""
    since = now - timedelta(days=retention.days)
    first = before_window(ordered, since)
    is_before = first is not None and first.made <= since
    return [(first.name, f"the last {_days(retention.days)} begin after it")] if first and is_before else []


def _why_not(entry: Entry, retention: Retention, age_now: timedelta) -> str:
    age = f"{_days(age_now.days)} old, kept for {_days(retention.days)}"
    if entry.damaged:
        return f"damaged, {age}"
    return f"only some tables, {age}" if entry.manifest.partial else age


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def simulate(
    source: SourceName,
    entries: Iterable[Entry],
    retention: Retention,
    schedule: Schedule,
    period: tuple[datetime, datetime],
) -> tuple[Decision, ...]:
    """Artifacts kept at the end of `period` (start, end) if every backup runs on time.

    Each run is proven and followed by a prune. Future artifacts have the size and the database of the newest of
    `entries`.
    """
    zone, (start, end) = schedule.zone, period
    simulated = Catalog.of(entries).entries
    like = simulated[-1].manifest if simulated else None
    run, most = schedule.next_due(source, start), 0
    while run and run <= end:
        taken = {entry.name for entry in simulated}
        simulated = (*simulated, _imagined(source, run, zone, like, taken))
        if len(simulated) > most:  # what one prune does not keep, no later one would: most can wait
            simulated = tuple(one.entry for one in decide(simulated, retention, run, zone) if one.keep)
            most = 2 * len(simulated)
        run = schedule.next_due(source, run)
    return tuple(decision for decision in decide(simulated, retention, end, zone) if decision.keep)


def _imagined(
    source: SourceName,
    created: datetime,
    zone: ZoneInfo | None,
    like: Manifest | None,
    taken: Collection[str],
) -> Entry:
    names = artifact_names(source, created.astimezone(zone))
    name = next(name for name in names if name not in taken)
    size, details = (like.size, like.details) if like else (0, {})
    manifest = Manifest(source, name, created.astimezone(UTC), size, "", 0.0, details=details)
    return Entry(manifest, (Evidence(created, Level.PROVEN, Outcome.PASSED, 0.0),))
