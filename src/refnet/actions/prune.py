"""prune: delete artifacts beyond retention, leftovers of crashed runs, and old previous versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from refnet import wiring
from refnet.catalog import retention
from refnet.catalog.periods import Retention
from refnet.catalog.retention import Decision, Listing, PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Leftover, Store
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources import source_of


@dataclass(frozen=True)
class PrunePlan:
    """The plan or the result of a prune of one source."""

    source: SourceName
    decisions: tuple[Decision, ...]
    leftovers: tuple[Leftover, ...]
    #: The previous versions that are removed.
    previous_versions: tuple[PreviousVersion, ...]
    #: Why some previous versions could not be listed or removed.
    unknown: tuple[RefnetError, ...] = ()
    #: The previous versions that are due and stay, each with its reason.
    blocked: tuple[PreviousVersion, ...] = ()

    @property
    def deleted(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if not decision.keep)

    @property
    def bytes_freed(self) -> int:
        """Upper bound of the freed bytes: artifacts that share bytes free nothing."""
        artifacts = sum(decision.entry.manifest.size for decision in self.deleted)
        return artifacts + sum(leftover.size for leftover in self.leftovers)

    @property
    def changes_nothing(self) -> bool:
        return not (self.deleted or self.leftovers or self.previous_versions)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "artifacts": [decision.to_json() for decision in self.decisions],
            "leftovers": [{"name": one.name, "size": one.size, "why": one.why} for one in self.leftovers],
            "previous_versions": [previous.to_json() for previous in self.previous_versions],
            "held_back": [previous.to_json() for previous in self.blocked],
            "bytes_freed_at_most": self.bytes_freed,
            "unknown": [error.message for error in self.unknown],
        }


def prune(
    context: Context, names: Iterable[SourceName], *, plan: bool = False, much: bool = False
) -> tuple[list[PrunePlan], list[RefnetError]]:
    """Prune the sources `names`, or only plan it; an error of one source does not stop the others.

    much: allow deleting the artifacts of many days at once, see `retention.too_much`.
    """
    settings, plans, errors = context.settings, list[PrunePlan](), list[RefnetError]()
    zone = settings.schedule.zone
    keep = timedelta(days=settings.retention_previous)
    known = {*wiring.known(settings)}
    for name in names:
        if name not in known:
            continue  # its retention is not known any more
        rules = Rules(
            wiring.store(settings),
            wiring.retention(settings, name),
            context.clock.now(),
            zone,
            source_of(settings, name).previous(),
            keep,
            much,
            context.restore_lock if settings.compose_service else None,
        )
        try:
            plans.append(rules.plan(name) if plan else rules.prune(name))
        except RefnetError as error:
            errors.append(error)
        else:
            errors += plans[-1].unknown
    return plans, errors


def simulate(context: Context, name: SourceName, span: timedelta) -> tuple[Decision, ...]:
    """Artifacts of `name` kept after `span`, if every backup runs on time."""
    settings, now = context.settings, context.clock.now()
    return retention.simulate(
        name,
        context.catalog.entries(name),
        wiring.retention(settings, name),
        settings.schedule,
        (now, now + span),
    )


@dataclass(frozen=True)
class Rules:
    """The rules of a prune."""

    store: Store
    retention: Retention
    #: Aware.
    now: datetime
    #: Its days and weeks are counted; None: those of the machine's zone.
    zone: ZoneInfo | None = None
    previous_versions: tuple[Listing, ...] = ()
    #: How long a previous version is kept.
    keep_previous: timedelta = timedelta(days=7)
    #: Delete even the artifacts of many days at once.
    much: bool = True
    #: The lock where a service of Compose prunes the store: then only previous versions are due here. None: the store's.
    lock: Callable[[SourceName], AbstractContextManager[None]] | None = None

    def plan(self, source: SourceName) -> PrunePlan:
        """Plan a prune of `source`; changes nothing."""
        due: list[PreviousVersion] = []
        unknown: list[RefnetError] = []
        for listed in self.previous_versions:
            try:
                due += [one for one in listed() if one.due(self.now, self.keep_previous)]
            except RefnetError as error:
                unknown.append(error)
        entries, leftovers = ((), ()) if self.lock else self.store.entries_and_leftovers(source)
        return PrunePlan(
            source,
            retention.decide(entries, self.retention, self.now, self.zone),
            leftovers,
            tuple(one for one in due if not one.blocked),
            tuple(unknown),
            tuple(one for one in due if one.blocked),
        )

    def prune(self, source: SourceName) -> PrunePlan:
        """Plan again under the source's lock, carry it out, and return the result."""
        found = self.plan(source)
        if found.changes_nothing:
            return found
        with (self.lock or self.store.lock)(source):
            found = self.plan(source)
            if not self.much and (error := retention.too_much(found.deleted, self.now)):
                raise error
            for decision in found.deleted:
                self.store.delete(decision.entry)
            for leftover in found.leftovers:
                self.store.clean(leftover)
            refused = tuple(error for one in found.previous_versions if (error := _refused(one)))
        return replace(found, unknown=(*found.unknown, *refused))


def _refused(previous: PreviousVersion) -> RefnetError | None:
    """Remove `previous`; return why that failed, for example because it is in use now."""
    try:
        previous.remove()
    except RefnetError as error:
        return error
    return None
