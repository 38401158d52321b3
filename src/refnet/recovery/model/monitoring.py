"""Is everything protected? Judged purely from the catalog, the journal of runs and the schedule.

What is new is `new`, not an alarm: a source that is not due yet, a size without a history, a drill whose first
time has not come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from refnet.errors import RefnetError
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome, SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity, labels
from refnet.recovery.model.run import Ended, History, Kind
from refnet.recovery.model.store import Leftover, Unlisted

#: A run may begin late (a randomized delay, a machine that slept) and takes its time.
GRACE = timedelta(hours=2)
#: The same for a drill, which is in no hurry.
DRILL_GRACE = timedelta(days=2)
#: An artifact is small when it is below this part of what its last ones were, in the middle.
SHRUNK = 0.5
#: How many artifacts make a history of sizes: at least, at most.
HISTORY = (3, 7)


class Status(StrEnum):
    """What a check found, from best to worst as `monitor` ends with it."""

    OK = "ok"
    NEW = "new"
    UNKNOWN = "unknown"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Status).index(self)

    @property
    def exit(self) -> int:
        """The exit code, as monitoring plugins have it: 0 ok, 1 warning, 2 critical, 3 unknown."""
        return {Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}.get(self, 0)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `source` None: it concerns all of them."""

    source: SourceName | None
    what: str
    status: Status
    says: str


@dataclass(frozen=True)
class Limits:
    """What is allowed of a source: the time between two backups and between two drills, the floor in bytes."""

    interval: timedelta
    drill_interval: timedelta
    min_bytes: int = 0

    @property
    def age(self) -> timedelta:
        """How old the newest artifact may be before a run has been missed."""
        return self.interval + GRACE

    @property
    def drill_age(self) -> timedelta:
        return self.drill_interval + DRILL_GRACE


def worst(checks: Iterable[Check]) -> Status:
    """The status of the whole; of nothing that was checked it is unknown."""
    return max((check.status for check in checks), key=lambda status: status.rank, default=Status.UNKNOWN)


def watch(
    source: SourceName, catalog: Catalog, history: History, limits: Limits, now: datetime
) -> tuple[Check, ...]:
    """What is to be said of `source`.

    Args:
        catalog: of all sources; how long RefNet has been at work here is told by all of them together.
        history: the journal of runs.
        now: aware.
    """
    entries = catalog.of_source(source)
    newest = catalog.newest_complete(source)
    since = _since(catalog, history, now)
    checks = [_presence(source, newest, entries, since, limits, now)]
    if not entries and (made := history.made(source)):
        checks = [Check(source, "age", Status.CRITICAL, f"no artifact is there any more: {made}")]
    if newest:
        checks += [_size(newest, entries, limits), _proof(newest), *_warnings(newest)]
        checks += _shrunk(newest, entries)
    if entries:
        checks += [_damage(source, newest, entries), _drill(source, entries, history, since, limits, now)]
    checks += _last_run(source, newest, history)
    return tuple(checks)


def watch_store(
    catalog: Catalog, leftovers: Sequence[Leftover], unlisted: Sequence[Unlisted], free: int | None
) -> tuple[Check, ...]:
    """What is to be said of the store as a whole; `free` is its room in bytes, None where it is not known."""
    checks = [_room(catalog, free)]
    if leftovers:
        says = f"{_some([one.name for one in leftovers])}: `refnet prune` cleans them"
        checks.append(Check(None, "leftovers", Status.WARNING, says))
    if unreadable := [one for one in unlisted if one.unreadable]:
        says = f"{_some([f'{one.name} {one.why}' for one in unreadable])}: `refnet list` says what to do"
        checks.append(Check(None, "unreadable", Status.WARNING, says))
    if strangers := [one.name for one in unlisted if not one.unreadable]:
        says = f"{_some(strangers)}: not counted; `refnet adopt` takes them in"
        checks.append(Check(None, "not listed", Status.OK, says))
    return tuple(checks)


def another_store(trouble: RefnetError) -> Check:
    """What is to be said where the backup folder is not the store that was here; nothing else is known then."""
    return Check(None, "the store", Status.CRITICAL, f"{trouble.message} {trouble.hint}")


def watch_others(catalog: Catalog, target: Identity | None) -> tuple[Check, ...]:
    """What is to be said of databases other than `target` in the store: they are there, and judged by their own monitor."""
    found = catalog.by_identity()
    named = labels(found)
    says = [
        f"{named[one]}: {formatting.plural(len(found[one]), 'artifact')}" for one in catalog.others(target)
    ]
    if not says:
        return ()
    return (Check(SourceName.DATABASE, "others", Status.OK, f"{'; '.join(says)}; not counted for {target}"),)


def _since(catalog: Catalog, history: History, now: datetime) -> datetime:
    """Since when RefNet has been at work here."""
    oldest = catalog.entries[:1]  # a catalog's are in order
    times = [entry.made for entry in oldest] + [run.started for run in history.runs]
    return min(times, default=now)


def _presence(
    source: SourceName,
    newest: Entry | None,
    entries: Sequence[Entry],
    since: datetime,
    limits: Limits,
    now: datetime,
) -> Check:
    """Whether there is a whole artifact, and whether it is young enough."""
    if newest is None:
        if entries:
            return Check(
                source, "age", Status.CRITICAL, "no whole artifact: all are damaged or hold some tables"
            )
        if now > since >= now - limits.age:
            return Check(source, "age", Status.NEW, "no artifact yet; its first time has not passed")
        return Check(source, "age", Status.CRITICAL, "no artifact: `refnet backup` makes one")
    age = now - newest.made
    says = f"{newest.name} is {formatting.age(age)} old"
    if age < -GRACE:
        return Check(
            source, "age", Status.WARNING, f"{newest.name} is dated in the future: is the clock right?"
        )
    if age > limits.age:
        missed = Status.CRITICAL if age > limits.age + limits.interval else Status.WARNING
        return Check(source, "age", missed, f"{says}, one is due every {formatting.age(limits.interval)}")
    return Check(source, "age", Status.OK, says)


def _size(newest: Entry, entries: Sequence[Entry], limits: Limits) -> Check:
    """Whether the newest is abnormally small: below the floor, or far below its own history."""
    size = newest.manifest.size
    if size < limits.min_bytes:
        says = (
            f"{formatting.size(size)}, less than the {formatting.size(limits.min_bytes)} of monitor.min_bytes"
        )
        return Check(newest.source, "size", Status.WARNING, says)
    before = [
        entry.manifest.size
        for entry in entries
        if not entry.manifest.partial and not entry.damaged and entry.made < newest.made
    ][-HISTORY[1] :]
    if len(before) < HISTORY[0]:
        return Check(
            newest.source, "size", Status.NEW, f"{formatting.size(size)}; too few before it to compare with"
        )
    usual = median(before)
    if size < usual * SHRUNK:
        says = (
            f"{formatting.size(size)}, where the {len(before)} before it had about {formatting.size(usual)}"
        )
        return Check(newest.source, "size", Status.WARNING, says)
    return Check(newest.source, "size", Status.OK, formatting.size(size))


def _proof(newest: Entry) -> Check:
    if newest.proven:
        return Check(newest.source, "proof", Status.OK, "the newest is proven")
    last = next((line for line in reversed(newest.evidence) if not line.accepts), None)
    if last and last.outcome is Outcome.UNVERIFIED:
        why = "; ".join(last.reasons) or "no reason was given"
        far = "" if newest.standing.unknown else f" more than {newest.state}"
        return Check(newest.source, "proof", Status.WARNING, f"could not verify{far}: {why}")
    says = f"the newest is {newest.state} only: `refnet verify` proves it"
    return Check(newest.source, "proof", Status.WARNING, says)


def _shrunk(newest: Entry, entries: Sequence[Entry]) -> list[Check]:
    """Whether the newest holds much less than the one before; nothing where no artifact of the source ever shrank."""
    what = "; ".join(newest.manifest.shrunk)
    if newest.shrunk:
        says = (
            f"{newest.name} holds much less than {newest.manifest.shrunk_from}: {what};"
            f" `refnet accept {newest.name}` if that is meant"
        )
        return [Check(newest.source, "shrunk", Status.CRITICAL, says)]
    if what:
        return [Check(newest.source, "shrunk", Status.OK, f"accepted: {what}")]
    if any(entry.shrunk for entry in entries):
        return [Check(newest.source, "shrunk", Status.OK, "an older one shrank, the newest did not")]
    return []


def _warnings(newest: Entry) -> list[Check]:
    """What was noticed when the newest was made."""
    lines = [e for e in newest.evidence if e.level is Level.WRITTEN and e.outcome is Outcome.PASSED]
    told = "; ".join(says for line in lines for says in line.reasons)
    return [Check(newest.source, "made", Status.WARNING, told)] if told else []


def _damage(source: SourceName, newest: Entry | None, entries: Sequence[Entry]) -> Check:
    """A damaged artifact newer than every whole one is critical: the last run did not protect anything."""
    damaged = [entry for entry in entries if entry.damaged]
    if not damaged:
        return Check(source, "damage", Status.OK, "none is damaged")
    latest = newest is None or damaged[-1].made > newest.made
    names = _some([entry.name for entry in damaged])
    return Check(source, "damage", Status.CRITICAL if latest else Status.WARNING, f"damaged: {names}")


def _drill(
    source: SourceName,
    entries: Sequence[Entry],
    history: History,
    since: datetime,
    limits: Limits,
    now: datetime,
) -> Check:
    """Whether the last drill is too long ago. Evidence goes with its artifact; the journal remembers longer."""
    drills: list[Evidence] = [line for entry in entries for line in entry.evidence if line.drill]
    times = [line.at for line in drills]
    run = history.last(Kind.DRILL, source)
    if run:
        times.append(run.started)
    if times and now - max(times) <= limits.drill_age:
        return Check(source, "drill", Status.OK, f"the last one was {formatting.age(now - max(times))} ago")
    if times:
        return Check(
            source,
            "drill",
            Status.WARNING,
            f"overdue: the last one was {formatting.age(now - max(times))} ago",
        )
    if now - since <= limits.drill_age:
        return Check(source, "drill", Status.NEW, "none yet; its first time has not passed")
    return Check(source, "drill", Status.WARNING, "overdue: there never was one; `refnet drill` is one")


def _last_run(source: SourceName, newest: Entry | None, history: History) -> list[Check]:
    """The last backup, where it failed and nothing has been made since."""
    run = history.last(Kind.BACKUP, source)
    if run is None or run.ended is not Ended.FAILED or (newest and newest.published > run.started):
        return []
    return [Check(source, "last run", Status.WARNING, f"failed: {run.message}")]


def _room(catalog: Catalog, free: int | None) -> Check:
    """Whether the next run of every source fits, at the size of the newest artifacts."""
    if free is None:
        return Check(None, "free space", Status.UNKNOWN, "cannot be known here")
    newest = [catalog.newest_complete(source) for source in SourceName]
    needed = sum(entry.manifest.size for entry in newest if entry)
    says = f"{formatting.size(free)} free, the next run takes about {formatting.size(needed)}"
    if free < needed:
        return Check(None, "free space", Status.CRITICAL, f"{says}: `refnet prune --plan` shows what may go")
    return Check(None, "free space", Status.WARNING if free < 3 * needed else Status.OK, says)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
