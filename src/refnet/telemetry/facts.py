"""The state of the backups at one moment, the input of metrics and messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.monitoring import (
    Check,
    Gone,
    Limits,
    watch,
    watch_gone,
    watch_half_made,
    watch_nothing,
    watch_previous,
)
from refnet.catalog.monitoring_stores import (
    StoreCheck,
    another_store,
    watch_bare,
    watch_checks,
    watch_copies,
    watch_others,
    watch_pages,
    watch_store,
)
from refnet.catalog.remote_state import StoreState
from refnet.catalog.run import Ended, History, Reason, Run, RunKind
from refnet.catalog.schedule import Schedule
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import HalfMade, Leftover, Unlisted
from refnet.core.errors import RefnetError


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
            *watch_copies(self.own_stores, self.own, self.limits, self.now, only),
            *(
                ()
                if only
                else (
                    *(() if self.watched else [watch_nothing()]),
                    *watch_checks(self.store_checks, self.now),
                    *watch_bare(self.bare),
                    *watch_pages(self.stale_pages),
                )
            ),
            *store,
        )

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
        ended = [_of_run(run, run.ended) for run in runs if run.ended and run.reason is not Reason.LOCKED]
        return sorted([*lines, *ended], key=lambda line: line.at)

    def last_proof(self, source: SourceName) -> Evidence | None:
        """Return the last passed proof or drill of an artifact of `source`, also from before its encryption."""
        lines = (line for one in self.own.of_source(source) for line in (*one.earlier, *one.evidence))
        proofs = (line for line in (*lines, *self.drills(source)) if is_proof(line))
        return max(proofs, key=lambda line: (line.at, line.drill), default=None)


def is_proof(line: Evidence) -> bool:
    """Return whether `line` is a passed proof."""
    return line.level is Level.PROVEN and line.outcome is Outcome.PASSED


def _of_run(run: Run, ended: Ended) -> Evidence:
    return Evidence(run.end, Level.PROVEN, _OUTCOMES[ended], run.seconds, drill=True)


_OUTCOMES = {
    Ended.DONE: Outcome.PASSED,
    Ended.FAILED: Outcome.FAILED,
    Ended.UNVERIFIED: Outcome.UNVERIFIED,
}
