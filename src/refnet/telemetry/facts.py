"""The state of the backups at one moment: facts, for metrics and messages too, and the overview made of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity, Whose
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome, utc
from refnet.catalog.monitoring import (
    Check,
    Gone,
    Limits,
    Status,
    watch,
    watch_gone,
    watch_half_made,
    watch_nothing,
    watch_previous,
    worst,
)
from refnet.catalog.monitoring_stores import (
    RecoveryDrilled,
    StoreCheck,
    another_store,
    watch_bare,
    watch_checks,
    watch_copies,
    watch_drills,
    watch_others,
    watch_pages,
    watch_store,
)
from refnet.catalog.remote_state import StoreState
from refnet.catalog.run import Ended, History, Reason, RunKind
from refnet.catalog.schedule import Schedule
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import HalfMade, Leftover, Unlisted
from refnet.catalog.trends import watch_trend
from refnet.catalog.wal_status import StreamStatus, watch_stream
from refnet.core import formatting
from refnet.core.errors import RefnetError

#: The most artifacts in a trend of sizes.
TREND = 60
_ORDER = list(Status)
#: The most problems in one sentence.
_NAMED = 3
_OUTCOMES = {
    Ended.DONE: Outcome.PASSED,
    Ended.FAILED: Outcome.FAILED,
    Ended.UNVERIFIED: Outcome.UNVERIFIED,
}


@dataclass(frozen=True)
class Facts:
    """The catalog, the journal and the settings at `now`."""

    now: datetime
    catalog: Catalog
    leftovers: tuple[Leftover, ...]
    unlisted: tuple[Unlisted, ...]
    #: Free space in the backup folder, in bytes; None if unknown.
    free_bytes: int | None
    history: History
    #: The sources that the settings protect.
    configured: frozenset[SourceName]
    schedule: Schedule
    limits: Mapping[SourceName, Limits]
    #: The identity of each source, if it is known.
    targets: Mapping[SourceName, Whose | None] = field(default_factory=dict)
    #: Why the backup folder is not the store of earlier runs; None: it is.
    trouble: RefnetError | None = None
    #: When each recorded previous version of a source was replaced; None: unreadable.
    previous: Mapping[SourceName, tuple[datetime, ...] | None] = field(default_factory=dict)
    #: How long a previous version is kept.
    keep_previous: timedelta = timedelta(days=7)
    #: The remote stores of the settings.
    stores: tuple[StoreState, ...] = ()
    #: Name of a remote store → its last check for refused deletions; None: never checked.
    store_checks: Mapping[str, StoreCheck | None] = field(default_factory=dict)
    #: Names of unencrypted files in a backup folder that should be encrypted.
    bare: tuple[str, ...] = ()
    #: Copies that running restores load, or that killed restores left.
    half_made: tuple[HalfMade, ...] = ()
    #: Sources with earlier backups that are no longer backed up, and not accepted by `refnet accept`.
    gone: Mapping[SourceName, Gone] = field(default_factory=dict)
    #: Problems of the recovery pages, one sentence each.
    stale_pages: tuple[str, ...] = ()
    #: The WAL of clusters.
    streams: tuple[StreamStatus, ...] = ()
    #: Databases of clusters with WAL → the source of the base backups.
    by_wal: Mapping[SourceName, SourceName] = field(default_factory=dict)
    #: Name of a remote store → the last drill of a recovery from it; None: never drilled.
    store_drills: Mapping[str, RecoveryDrilled | None] = field(default_factory=dict)

    @cached_property
    def own(self) -> Catalog:
        """The catalog without the artifacts of other databases and machines."""
        own = self.catalog
        for source, target in self.targets.items():
            own = own.about(target, source)
        return own

    @cached_property
    def own_stores(self) -> tuple[StoreState, ...]:
        """The remote stores without the copies of other databases and machines."""
        found = []
        for state in self.stores:
            copies = Catalog.of(state.copies)
            for source, target in self.targets.items():
                copies = copies.about(target, source)
            own = {entry.name for entry in copies.entries}
            found.append(replace(state, copies=tuple(one for one in state.copies if one.name in own)))
        return tuple(found)

    @cached_property
    def sources(self) -> tuple[SourceName, ...]:
        """The sources of the settings, then those that are gone."""
        return tuple(dict.fromkeys((*self.limits, *self.gone)))

    def checks(self, only: SourceName | None = None) -> tuple[Check, ...]:
        """Return the monitor's checks: of each configured source (or `only`), then of the store.

        Artifacts of other databases and machines are counted; their own monitors judge them.
        """
        if self.trouble:
            return (another_store(self.trouble),)
        names = [s for s in self.sources if s == only] if only else self.watched
        names, lost = [s for s in names if s not in self.gone], [s for s in names if s in self.gone]
        of_sources = (watch(s, self.own, self.history, self.limits[s], self.now, self.bare) for s in names)
        others = (watch_others(self.catalog, self.targets.get(source), source) for source in names)
        store = watch_store(self.own, self.leftovers, self.unlisted, self.free_bytes)
        kept = (watch_previous(s, self.previous.get(s, ()), self.keep_previous, self.now) for s in names)
        return (
            *(check for checks in of_sources for check in checks),
            *(watch_gone(one, self.gone[one]) for one in lost),
            *(check for checks in kept for check in checks),
            *watch_half_made([one for one in self.half_made if one.source in names], self.now),
            *(check for checks in others for check in checks),
            *(check for one in self.streams if only in {None, one.source} for check in watch_stream(one)),
            *watch_copies(self.own_stores, self.own, self.limits, self.now, only),
            *(
                ()
                if only
                else (
                    *(() if self.watched else [watch_nothing()]),
                    *watch_checks(self.store_checks, self.now),
                    *watch_drills(self.store_drills, self.now),
                    *watch_bare(self.bare),
                    *watch_pages(self.stale_pages),
                    *watch_trend(self.history, self.now),
                )
            ),
            *store,
        )

    def restorable_by_wal(self, source: SourceName) -> datetime | None:
        """Each commit before this moment can be restored by base backups and WAL; None: no moment can."""
        bases = self.by_wal.get(source, source)
        found = ((one.lag, one.window) for one in self.streams if one.source == bases)
        ends = (min(self.now - lag, window[1]) for lag, window in found if lag is not None and window)
        return max(ends, default=None)

    @cached_property
    def watched(self) -> tuple[SourceName, ...]:
        """The sources that the monitor judges: those configured and those gone. Others raise no alarm."""
        return tuple(one for one in self.sources if one in self.configured or one in self.gone)

    def drills(self, source: SourceName) -> list[Evidence]:
        """Return the finished drills of `source`, oldest first; the last line of a drill is its outcome.

        The journal keeps drills whose evidence was deleted with the artifact.
        """
        lines = [line for entry in self.own.of_source(source) for line in entry.evidence if line.drill]
        runs = (run for run in self.history.runs if run.kind is RunKind.DRILL and run.source == source)
        skipped = {Reason.LOCKED, Reason.INTERRUPTED}
        lines += [
            Evidence(run.end, Level.PROVEN, _OUTCOMES[run.ended], run.seconds, drill=True)
            for run in runs
            if run.ended and run.reason not in skipped
        ]
        return sorted(lines, key=lambda line: line.at)

    def last_proof(self, source: SourceName) -> Evidence | None:
        """Return the last passed proof or drill of an artifact of `source`, also from before its encryption."""
        lines = (line for one in self.own.of_source(source) for line in (*one.earlier, *one.evidence))
        proofs = (line for line in (*lines, *self.drills(source)) if is_proof(line))
        return max(proofs, key=lambda line: (line.at, line.drill), default=None)


def is_proof(line: Evidence) -> bool:
    """Return whether `line` is a passed proof."""
    return line.level is Level.PROVEN and line.outcome is Outcome.PASSED


@dataclass(frozen=True)
class SourceState:
    """The state of a source at one moment."""

    source: SourceName
    #: Whether the settings protect the source; otherwise it only has artifacts.
    configured: bool
    #: The worst of its checks.
    status: Status
    #: Its checks that are worse than `new`, the worst first.
    problems: tuple[Check, ...] = ()
    #: The newest artifact, whatever its state.
    newest: Entry | None = None
    #: The newest artifact that is neither partial nor damaged: a loss now costs all later changes.
    usable: Entry | None = None
    #: The next scheduled backup; None: not scheduled.
    next_run: datetime | None = None
    #: Moment and size (bytes) of the last complete artifacts, oldest first.
    sizes: tuple[tuple[datetime, int], ...] = ()
    #: The last drill, whatever its outcome.
    drill: Evidence | None = None
    #: The last passed proof or drill: its duration is the measured recovery time.
    proof: Evidence | None = None
    #: When the running backup began; None: no backup runs.
    at_work: datetime | None = None
    #: Each commit before this moment can be restored by WAL; None: no WAL is there.
    by_wal: datetime | None = None

    @property
    def protected(self) -> bool:
        """Whether there is an artifact to restore and the monitor finds no problem."""
        return self.usable is not None and self.status in {Status.OK, Status.NEW}

    @property
    def off(self) -> bool:
        """Whether the source is configured but not scheduled."""
        return self.configured and self.next_run is None

    @property
    def reason(self) -> str:
        """The first reason why the source is not protected."""
        return self.problems[0].says if self.problems else "no artifact yet"

    def rpo(self, now: datetime) -> timedelta | None:
        """Return the age of what a loss would cost; None: everything would be lost."""
        there = (self.by_wal, self.usable.created if self.usable else None)
        newest = max(filter(None, there), default=None)
        return now - newest if newest else None

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Return the values for --json: times in UTC, durations and ages in seconds."""
        rpo = self.rpo(now)
        return {
            "source": self.source,
            "protected": self.protected,
            "status": self.status,
            "newest": self.newest and self.newest.name,
            "state": self.newest and self.newest.state,
            "usable": self.usable and self.usable.name,
            "rpo_seconds": None if rpo is None else round(rpo.total_seconds()),
            "rto_seconds": self.proof and self.proof.seconds,
            "rto_measured_by": self.proof and ("drill" if self.proof.drill else "proof"),
            "rto_measured": self.proof and utc(self.proof.at),
            "last_drill": self.drill and utc(self.drill.at),
            "last_drill_outcome": self.drill and self.drill.outcome,
            "next_run": self.next_run and utc(self.next_run),
        }


@dataclass(frozen=True)
class Overview:
    """The state of all sources and of the store at `now`."""

    now: datetime
    #: The sources that are configured or have artifacts.
    sources: tuple[SourceState, ...] = ()
    #: Every check of the monitor.
    checks: tuple[Check, ...] = ()
    #: Why nothing could be read, or why the backup folder is not that of earlier runs; None: no trouble.
    trouble: RefnetError | None = None
    #: Whether nothing was ever backed up here.
    new: bool = False
    #: The database that did not answer, so that its artifacts are found only by name; "": none.
    silent: str = ""
    #: Sources with artifacts that are neither configured nor gone: accepted ones, and those of other machines.
    unnamed: tuple[SourceName, ...] = ()
    #: The input of this overview; None: unreadable.
    facts: Facts | None = field(default=None, repr=False)

    @property
    def streams(self) -> Mapping[SourceName, StreamStatus]:
        """The WAL of clusters, by the source of their base backups."""
        return {one.source: one for one in self.facts.streams} if self.facts else {}

    @property
    def status(self) -> Status:
        return worst(self.checks)

    @property
    def problems(self) -> tuple[Check, ...]:
        """The checks that belong to no single source and are worse than `new`, the worst first."""
        return () if self.trouble else _problems(one for one in self.checks if one.source is None)

    @property
    def off(self) -> tuple[SourceName, ...]:
        """The sources that no schedule backs up."""
        return tuple(one.source for one in self.sources if one.off)

    @property
    def verdict(self) -> tuple[str, dict[str, int]]:
        """A sentence on all sources, and the counts to fill in."""
        total, good = len(self.sources), sum(one.protected for one in self.sources)
        if self.trouble and self.status is Status.CRITICAL:
            return "The backup folder is not the store of earlier runs", {}
        if self.trouble:
            return "Could not verify whether everything is protected", {}
        if self.new:
            return "Nothing is backed up yet", {}
        if good < total:
            return "{count} of {total} sources are protected", {"count": good, "total": total}
        if self.problems:
            return "Every source is protected; the store needs attention", {}
        return "Everything is protected", {}

    @property
    def says(self) -> str:
        """One line: the verdict, its first reasons, and the unscheduled sources."""
        text, values = self.verdict
        found = [self.trouble.message] if self.trouble else []
        found += [f"{one.source}: {one.reason}" for one in self.sources if not (one.protected or self.new)]
        found += [f"{one.what}: {one.says}" for one in self.problems]
        left = [f"not scheduled: {formatting.some(self.off, _NAMED)}"] if self.off else []
        more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
        return formatting.plain("; ".join([text.format(**values), *found[:_NAMED], *more, *left]))

    def to_json(self) -> dict[str, Any]:
        return {"says": self.says, "sources": [one.to_json(self.now) for one in self.sources]}


def overview(facts: Facts, only: SourceName | None = None) -> Overview:
    """Return the overview of `facts`, or of the source `only`."""
    checks, watched = facts.checks(only), (only,) if only else facts.watched
    if facts.trouble:
        return Overview(facts.now, checks=checks, trouble=facts.trouble, facts=facts)
    target = facts.targets.get(SourceName.DATABASE)
    return Overview(
        facts.now,
        tuple(_state(facts, one, checks) for one in watched),
        checks,
        new=not any(facts.own.of_source(one) or facts.history.made(one) for one in watched),
        silent=target.database if isinstance(target, Identity) and target.system is None else "",
        unnamed=tuple(one for one in facts.catalog.sources if one not in (*facts.configured, *facts.gone)),
        facts=facts,
    )


def unreadable(now: datetime, error: RefnetError) -> Overview:
    """Return the overview without facts, which `error` made unreadable."""
    check = Check(None, "the store", Status.UNKNOWN, f"{error.message}. {error.hint}")
    return Overview(now, checks=(check,), trouble=error)


def _state(facts: Facts, source: SourceName, checks: Iterable[Check]) -> SourceState:
    own = [one for one in checks if one.source == source]
    entries, drills = facts.own.of_source(source), facts.drills(source)
    complete = facts.own.complete(source)
    running = [
        run.started for run in facts.history.at_work if run.kind is RunKind.BACKUP and run.source == source
    ]
    return SourceState(
        source,
        source in facts.configured,
        worst(own),
        _problems(own),
        entries[-1] if entries else None,
        complete[0] if complete else None,
        facts.schedule.next_due(source, facts.now) if source in facts.configured else None,
        tuple((one.created, one.manifest.size) for one in reversed(complete[:TREND])),
        drills[-1] if drills else None,
        facts.last_proof(source),
        min(running, default=None),
        facts.restorable_by_wal(source),
    )


def _problems(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks that are worse than `new`, the worst first."""
    found = [one for one in checks if one.status not in {Status.OK, Status.NEW}]
    return tuple(sorted(found, key=lambda one: _ORDER.index(one.status), reverse=True))
