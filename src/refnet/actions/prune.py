"""prune: delete what retention does not keep, leftovers of crashed runs, and old previous versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from refnet import wiring
from refnet.actions.context import Context
from refnet.errors import RefnetError
from refnet.recovery.model import retention as rules
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.retention import Decision, Listing, PreviousVersion
from refnet.recovery.model.schedule import Schedule, TaskName
from refnet.recovery.model.store import Leftover, Store
from refnet.settings import Retention


@dataclass(frozen=True)
class Plan:
    """What a prune does to one source."""

    source: SourceName
    decisions: tuple[Decision, ...]
    leftovers: tuple[Leftover, ...]
    #: The previous versions that are removed.
    previous_versions: tuple[PreviousVersion, ...]
    #: Why some previous versions could not be listed or removed.
    unknown: tuple[RefnetError, ...] = ()
    #: The previous versions that are due and stay, each with its reason.
    held_back: tuple[PreviousVersion, ...] = ()

    @property
    def deleted(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if not decision.keep)

    @property
    def bytes_freed(self) -> int:
        """At most: artifacts that share their bytes with a kept one free nothing."""
        artifacts = sum(decision.entry.manifest.size for decision in self.deleted)
        return artifacts + sum(leftover.size for leftover in self.leftovers)

    @property
    def changes_nothing(self) -> bool:
        return not (self.deleted or self.leftovers or self.previous_versions)


def prune(
    context: Context, names: Iterable[SourceName], *, plan: bool = False
) -> tuple[list[Plan], list[RefnetError]]:
    """Prune the sources `names`, or only plan it; an error of one source does not stop the others."""
    settings, plans, errors = context.settings, [], []
    act = planned if plan else carry_out
    for name in names:
        try:
            done = act(
                context.store,
                name,
                wiring.retention(settings, name),
                now=context.clock.now(),
                zone=Schedule.of(settings).zone,
                previous_versions=wiring.previous_versions(settings),
            )
        except RefnetError as error:
            errors.append(error)
        else:
            plans.append(done)
            errors += done.unknown
    return plans, errors


def simulate(context: Context, name: SourceName, span: timedelta) -> tuple[Decision, ...]:
    """Return what would be kept of `name` after `span`, if every backup runs on time."""
    settings, schedule = context.settings, Schedule.of(context.settings)
    return rules.simulate(
        name,
        context.store.entries(name),
        wiring.retention(settings, name),
        schedule.times[TaskName(name)],
        context.clock.now(),
        span,
        schedule.zone,
    )


def planned(
    store: Store,
    source: SourceName,
    retention: Retention,
    *,
    now: datetime,
    zone: ZoneInfo | None,
    previous_versions: Iterable[Listing] = (),
) -> Plan:
    """Return what a prune of `source` would do at `now` (aware); nothing is changed.

    zone: its days and weeks are counted; None: the machine's.
    """
    due: list[PreviousVersion] = []
    unknown: list[RefnetError] = []
    for listed in previous_versions:
        try:
            due += [one for one in listed(source) if one.due(now)]
        except RefnetError as error:
            unknown.append(error)
    return Plan(
        source,
        rules.decide(store.entries(source), retention, now, zone),
        store.leftovers(source),
        tuple(one for one in due if not one.blocked),
        tuple(unknown),
        tuple(one for one in due if one.blocked),
    )


def carry_out(
    store: Store,
    source: SourceName,
    retention: Retention,
    *,
    now: datetime,
    zone: ZoneInfo | None,
    previous_versions: Iterable[Listing] = (),
) -> Plan:
    """Do what `planned` says, decided again under the source's lock; return what was done."""
    found = planned(store, source, retention, now=now, zone=zone, previous_versions=previous_versions)
    if found.changes_nothing:
        return found
    with store.lock(source):
        found = planned(store, source, retention, now=now, zone=zone, previous_versions=previous_versions)
        for decision in found.deleted:
            store.delete(decision.entry)
        for leftover in found.leftovers:
            store.clean(leftover)
        refused = tuple(error for one in found.previous_versions if (error := _refused(one)))
    return replace(found, unknown=(*found.unknown, *refused))


def _refused(previous: PreviousVersion) -> RefnetError | None:
    """Remove `previous`; return why that failed: somebody may use it since the plan."""
    try:
        previous.remove()
    except RefnetError as error:
        return error
    return None
