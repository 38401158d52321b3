"""Is every source protected? The monitor's checks of a source, from the catalog, the journal of runs and the schedule.

A status that is only new is `new`, no alarm: a source whose first run is not due yet, a size without a history, a
drill that is not due yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry, Level, Outcome
from refnet.catalog.run import Ended, History, RunKind
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import HalfMade
from refnet.core import formatting

#: Tolerance for a late start (a random delay, a machine that slept) and the duration of a run.
GRACE = timedelta(hours=2)
#: The same for a drill, which is less urgent.
DRILL_GRACE = timedelta(days=2)
#: Tolerance for a previous version that prune should have removed.
OVERDUE = timedelta(days=2)
#: The end of a run is computed from its start and its duration, which two clocks measure.
CLOCKS = timedelta(seconds=2)
#: A copy of a restore that is older is one of a killed run.
LONGEST_RESTORE = timedelta(days=1)
#: A run that takes longer than this many times the longest of so many before it, and than so long, may hang.
_TIMES, _BEFORE, _LEAST = 3, 10, timedelta(hours=1)
#: The same for the first runs of a source.
_LONGEST_FIRST = timedelta(days=1)
#: An artifact below this fraction of the median of the last ones is small.
SHRUNK = 0.5
#: The number of artifacts that make a history of sizes: at least, at most.
HISTORY = (3, 7)


class Status(StrEnum):
    """The result of a check, from best to worst."""

    OK = "ok"
    NEW = "new"
    UNKNOWN = "unknown"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def exit(self) -> int:
        """The exit code of a monitoring plugin: 0 ok, 1 warning, 2 critical, 3 unknown."""
        return {Status.WARNING: 1, Status.CRITICAL: 2, Status.UNKNOWN: 3}.get(self, 0)


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    #: None: the check concerns all sources.
    source: SourceName | None
    what: str
    status: Status
    says: str

    def to_json(self) -> dict[str, str | None]:
        return {"source": self.source, "check": self.what, "status": self.status, "says": self.says}


@dataclass(frozen=True)
class Gone:
    """Why a source is gone, and how to bring it back; parts of a sentence."""

    why: str
    how: str


@dataclass(frozen=True)
class Limits:
    """The intervals of a source's schedule (None: off), and the smallest expected artifact."""

    interval: timedelta | None
    drill_interval: timedelta | None
    min_bytes: int = 0
    #: Between two proofs; None: each backup is proven.
    proof_interval: timedelta | None = None

    @property
    def proof_age(self) -> timedelta | None:
        """Maximum age of the last proven artifact; above it, a proof was missed."""
        return self.proof_interval and self.proof_interval + (self.interval or timedelta()) + GRACE

    @property
    def age(self) -> timedelta | None:
        """Maximum age of the newest artifact; above it, a run was missed."""
        return self.interval and self.interval + GRACE

    @property
    def drill_age(self) -> timedelta | None:
        return self.drill_interval and self.drill_interval + DRILL_GRACE


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status of `checks`; unknown if there are none."""
    return max((check.status for check in checks), key=list(Status).index, default=Status.UNKNOWN)


@dataclass(frozen=True)
class _Source:
    name: SourceName
    #: All artifacts, oldest first.
    entries: Sequence[Entry]
    #: The newest complete artifact.
    newest: Entry | None
    history: History
    limits: Limits
    #: When RefNet first ran here, by the artifacts and runs of all sources.
    installed: datetime
    #: When it first made an artifact of this source.
    since: datetime
    now: datetime
    #: The names of artifacts that are there, but not encrypted although they should be.
    bare: Sequence[str] = ()

    def check(self, what: str, status: Status, says: str) -> Check:
        return Check(self.name, what, status, says)


def watch(
    name: SourceName,
    catalog: Catalog,
    history: History,
    limits: Limits,
    now: datetime,
    bare: Sequence[str] = (),
) -> tuple[Check, ...]:
    """Check the source `name`.

    Args:
        catalog: the artifacts of all sources.
        history: the journal of runs.
        now: aware.
        bare: names of unencrypted artifacts, which `catalog` omits.
    """
    catalog = replace(catalog, now=now)
    times = [entry.made for entry in catalog.entries[:1]] + [run.started for run in history.runs]
    entries, newest = catalog.of_source(name), catalog.newest_complete(name)
    installed = min(times, default=now)
    since = _since(name, entries, history, installed)
    source = _Source(name, entries, newest, history, limits, installed, since, now, bare)
    checks = [_age(source), *_ahead(source), *_marks(source)]
    if newest:
        checks += [_size(source, newest), _proof(source, newest), *_warnings(source, newest)]
        checks += _shrunk(source, newest)
    if entries:
        checks += [_damage(source), _drill(source)]
    return (*checks, *_last_run(source), *_running(source))


def _since(name: SourceName, entries: Sequence[Entry], history: History, installed: datetime) -> datetime:
    """Start of the source `name`; it may have been added after the installation.

    `installed` if the journal no longer contains all of its runs.
    """
    runs = [run for run in history.runs if run.source == name]
    listed = sum(run.kind is RunKind.BACKUP and run.ended is Ended.DONE for run in runs)
    if sum(history.totals.buckets.get(name, ())) > listed:
        return installed
    return min((*(entry.made for entry in entries), *(run.started for run in runs)), default=installed)


def _age(source: _Source) -> Check:
    newest, limits = source.newest, source.limits
    if newest is None:
        return _absence(source)
    age = source.now - newest.made
    if age < -GRACE:
        return source.check(
            "age", Status.WARNING, f"{newest.name} is dated in the future: is the clock right?"
        )
    says = f"{newest.name} is {formatting.old(age)}"
    if limits.interval is None or limits.age is None:
        return source.check("age", Status.OK, f"{says}; its schedule is off")
    if age > limits.age:
        missed = Status.CRITICAL if age > limits.age + limits.interval else Status.WARNING
        return source.check("age", missed, f"{says}, one is due every {formatting.age(limits.interval)}")
    return source.check("age", Status.OK, says)


def _ahead(source: _Source) -> list[Check]:
    """Report artifacts dated in the future beside the newest one."""
    names = [entry.name for entry in source.entries if entry.ahead(source.now) and entry is not source.newest]
    if not names:
        return []
    says = f"dated in the future: {formatting.some(names, 3)}: not counted, and chosen only by name; is the clock right?"
    return [source.check("clock", Status.WARNING, says)]


def _absence(source: _Source) -> Check:
    if source.entries:
        says = "no complete artifact: all are damaged or contain only some tables"
    elif made := source.history.made(source.name):
        is_bare = any(run.artifact in source.bare for run in source.history.runs if run.source == source.name)
        says = "none of its artifacts is encrypted" if is_bare else f"every artifact is gone: {made}"
    elif source.limits.age is None:
        says = "no artifact, and its schedule is off: `refnet backup` makes one"
        return source.check("age", Status.WARNING, says)
    elif source.now > source.installed >= source.now - source.limits.age:
        return source.check("age", Status.NEW, "no artifact yet; the first run is not due yet")
    else:
        says = "no artifact: `refnet backup` makes one"
    return source.check("age", Status.CRITICAL, says)


def _size(source: _Source, newest: Entry) -> Check:
    """Check the newest artifact's size against the configured minimum and earlier sizes."""
    size, least = newest.manifest.size, source.limits.min_bytes
    says = formatting.size(size)
    if _is_increment(newest):  # its size says nothing of how much there is
        return source.check("size", Status.OK, f"{says}, an increment")
    if size < least:
        return source.check(
            "size", Status.WARNING, f"{says}, below monitor.min_bytes ({formatting.size(least)})"
        )
    earlier = (e for e in source.entries if e.complete and e.made < newest.made and not _is_increment(e))
    before = [e.manifest.size for e in earlier][-HISTORY[1] :]
    if len(before) < HISTORY[0]:
        return source.check("size", Status.NEW, f"{says}; too few earlier ones to compare with")
    usual = _median(before)
    if size < usual * SHRUNK:
        says = f"{says}; the last {len(before)} before it had about {formatting.size(usual)}"
        return source.check("size", Status.WARNING, says)
    return source.check("size", Status.OK, says)


def _is_increment(entry: Entry) -> bool:
    facts = facts_of(entry)
    return facts is not None and not facts.of_full


def _median(sizes: Sequence[int]) -> float:
    """Return the median. To import `statistics` for it takes a fiftieth of `refnet list`."""
    ordered, half = sorted(sizes), len(sizes) // 2
    return (ordered[half] + ordered[~half]) / 2


def _proof(source: _Source, newest: Entry) -> Check:
    if newest.proven and newest.unaccepted:
        says = f"the newest is proven, except what no server accepts: {formatting.some(newest.unaccepted, 3)}"
        return source.check(
            "proof", Status.WARNING, f"{says}; `refnet accept {newest.name}` if that is known"
        )
    if newest.proven:
        but = f", except what you accepted: {formatting.some(newest.faulty, 3)}" if newest.faulty else ""
        but += f", but {formatting.some(newest.gaps, 1)}" if newest.gaps else ""
        return source.check("proof", Status.OK, f"the newest is proven{but}")
    if newest.proven_before:
        says = f"the newest is {newest.state}, and was proven before it was encrypted"
        return source.check("proof", Status.OK, says)
    if facts_of(newest) and newest.level is Level.RESTORED and not newest.damaged:
        says = "the newest was recovered; a drill compares its rows with an artifact of a database"
        return source.check("proof", Status.OK, says)
    if waits := _between_proofs(source, newest):
        return waits
    last = next((line for line in reversed(newest.evidence) if not line.accepts), None)
    if last and last.outcome is Outcome.UNVERIFIED:
        why = "; ".join(last.reasons) or "no reason was recorded"
        beyond = "" if newest.standing.unknown else f" beyond {newest.state}"
        return source.check("proof", Status.WARNING, f"could not verify{beyond}: {why}")
    return source.check(
        "proof", Status.WARNING, f"the newest is only {newest.state}: `refnet verify` proves it"
    )


def _between_proofs(source: _Source, newest: Entry) -> Check | None:
    """Check of an unproven artifact when no proof is due; None if one is due or was tried."""
    every, limit = source.limits.proof_interval, source.limits.proof_age
    proven = [entry for entry in source.entries if entry.proven and entry.complete]
    if not every or not limit or not proven or newest.level is not Level.INTACT:
        return None
    if any(line.level.rank > Level.INTACT.rank for line in newest.evidence):
        return None
    says = f"the newest is {newest.state}; {proven[-1].name} is proven and {formatting.old(source.now - proven[-1].made)}"
    due = f"one is proven every {formatting.age(every)}"
    overdue = source.now - proven[-1].made > limit
    return source.check("proof", Status.WARNING if overdue else Status.OK, f"{says}, {due}")


def _shrunk(source: _Source, newest: Entry) -> list[Check]:
    """Check whether the newest artifact shrank; nothing if none ever did."""
    what = "; ".join(newest.manifest.shrunk)
    if newest.shrunk:
        says = (
            f"{newest.name} contains much less than {newest.manifest.shrunk_from}: {what};"
            f" `refnet accept {newest.name}` if that is intended"
        )
        return [source.check("shrunk", Status.CRITICAL, says)]
    if what:
        return [source.check("shrunk", Status.OK, f"accepted: {what}")]
    if any(entry.shrunk for entry in source.entries):
        return [source.check("shrunk", Status.OK, "an older one shrank, the newest did not")]
    return []


def _warnings(source: _Source, newest: Entry) -> list[Check]:
    """Repeat the warnings of the backup that made the newest."""
    lines = [e for e in newest.evidence if e.level is Level.WRITTEN and e.outcome is Outcome.PASSED]
    reasons = "; ".join(reason for line in lines for reason in line.reasons)
    return [source.check("made", Status.WARNING, reasons)] if reasons else []


def _damage(source: _Source) -> Check:
    """Check for damage; critical without a newer complete artifact, as the last run protected nothing."""
    damaged = [entry for entry in source.entries if entry.damaged]
    if not damaged:
        return source.check("damage", Status.OK, "none is damaged")
    latest = source.newest is None or damaged[-1].made > source.newest.made
    names = formatting.some([entry.name for entry in damaged], 3)
    return source.check("damage", Status.CRITICAL if latest else Status.WARNING, f"damaged: {names}")


def _marks(source: _Source) -> list[Check]:
    """Report artifacts whose marks cannot be read; nothing if all can."""
    names = [entry.name for entry in source.entries if entry.marks.unreadable]
    if not names:
        return []
    says = f"cannot be read, so they stay: {formatting.some(names, 3)}; `refnet unpin ARTIFACT` removes them"
    return [source.check("marks", Status.WARNING, says)]


def _drill(source: _Source) -> Check:
    """Check the age of the last drill. Evidence is deleted with its artifact; the journal keeps drills longer."""
    limit = source.limits.drill_age
    times = [line.at for entry in source.entries for line in entry.evidence if line.drill]
    if run := source.history.last(RunKind.DRILL, source.name):
        times.append(run.started)
    if run and run.ended is Ended.UNVERIFIED and max(times) <= run.end + CLOCKS:
        ago = formatting.age(source.now - run.started)
        return source.check("drill", Status.WARNING, f"the last one, {ago} ago, {run.message}")
    if times:
        age = source.now - max(times)
        says = f"the last one was {formatting.age(age)} ago"
        if limit is None or age <= limit:
            return source.check("drill", Status.OK, says if limit else f"{says}; its schedule is off")
        return source.check("drill", Status.WARNING, f"overdue: {says}")
    if limit is None:
        return source.check("drill", Status.OK, "none, and its schedule is off")
    if source.now - source.since <= limit:
        return source.check("drill", Status.NEW, "none yet; the first one is not due yet")
    return source.check("drill", Status.WARNING, "overdue: none has run; `refnet drill` runs one")


def _last_run(source: _Source) -> list[Check]:
    """Report the last backup if it failed and nothing was made since, or if it was stopped."""
    run, stopped = source.history.last(RunKind.BACKUP, source.name), source.history.stopped(source.name)
    if run is None or run.ended is not Ended.FAILED:
        return [source.check("last run", Status.OK, stopped)] if stopped else []
    if source.newest and source.newest.published > run.started:
        return []
    return [source.check("last run", Status.WARNING, f"failed: {run.message}")]


def _running(source: _Source) -> Iterator[Check]:
    """Report runs that take far longer than usual: one that hangs may hold a lock, or a snapshot of the database."""
    history = source.history
    for run in history.at_work:
        if run.source != source.name:
            continue
        alike = [one for one in history.runs if (one.kind, one.source) == (run.kind, run.source)]
        done = [one.seconds for one in alike if one.ended is Ended.DONE][-_BEFORE:]
        usual = timedelta(seconds=max(done, default=0.0))
        takes = source.now - run.started
        if takes > (max(_TIMES * usual, _LEAST) if done else _LONGEST_FIRST):
            before = (
                f"the last {len(done)} took at most {formatting.age(usual)}" if done else "it is the first"
            )
            says = (
                f"the {run.kind} has run for {formatting.age(takes)}, {before}; if it hangs, end it and retry"
            )
            yield source.check("running", Status.WARNING, says)


def watch_gone(name: SourceName, found: Gone) -> Check:
    """Report a gone source."""
    says = f"{found.why}: {found.how}, `refnet accept {name}` if that is intended"
    return Check(name, "gone", Status.CRITICAL, says)


def watch_previous(
    name: SourceName, since: Sequence[datetime] | None, keep: timedelta, now: datetime
) -> tuple[Check, ...]:
    """Count previous versions of `name`, kept `since` (None: unknown); warn about overdue ones."""
    what = "previous versions"
    if since is None:
        return (Check(name, what, Status.WARNING, "cannot be read: `refnet list --previous` says why"),)
    if not since:
        return ()
    age = now - min(since)
    says = f"{len(since)}, the oldest from {formatting.age(age)} ago"
    if age <= keep + OVERDUE:
        return (Check(name, what, Status.OK, says),)
    says = f"{says}, kept for {formatting.age(keep)}: `refnet prune` removes it or says why it stays"
    return (Check(name, what, Status.WARNING, says),)


def watch_nothing() -> Check:
    """Warn that no source is protected."""
    says = "nothing is backed up: no source is configured, and no default exists; `refnet backup` says what to set"
    return Check(None, "sources", Status.WARNING, says)


def watch_half_made(there: Iterable[HalfMade], now: datetime) -> Iterator[Check]:
    """Report copies left by restores, once no restore can still be loading them."""
    for one in there:
        age, status = now - one.at, Status.WARNING
        says = f"{formatting.plain(one.what)}, from {formatting.age(age)} ago"
        if age < LONGEST_RESTORE:
            says, status = f"{says}, of a restore that runs or was killed", Status.OK
        else:
            says = f"{says}, of a killed restore: `refnet prune` or the next restore removes it"
        yield Check(one.source, "half-made copy", status, says)
