"""prune: delete what retention lets go of, what crashed runs left, and what restores put aside long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.retention import Decision, PreviousVersion, decide
from refnet.recovery.model.store import Leftover, Store
from refnet.settings import Retention

#: Lists what restores of a source put aside; RefnetError where it cannot be known (a server that is down).
Listing = Callable[[SourceName], Iterable[PreviousVersion]]


@dataclass(frozen=True)
class Plan:
    """What a prune does to one source.

    `previous_versions`: only what is due; `held_back`: what is due and stays, each with its reason; `unknown`: why some of it
    cannot be known, or could not be removed.
    """

    source: SourceName
    decisions: tuple[Decision, ...]
    leftovers: tuple[Leftover, ...]
    previous_versions: tuple[PreviousVersion, ...]
    unknown: tuple[RefnetError, ...] = ()
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


def plan(
    store: Store,
    source: SourceName,
    retention: Retention,
    *,
    now: datetime,
    zone: ZoneInfo | None,
    previous_versions: Iterable[Listing] = (),
) -> Plan:
    """What a prune of `source` would do now; nothing is changed.

    Args:
        now: aware. `zone`: whose days and weeks are counted; None: the machine's.
        previous_versions: each lists what restores put aside.
    """
    due: list[PreviousVersion] = []
    unknown: list[RefnetError] = []
    for listed in previous_versions:
        try:
            due += [aside for aside in listed(source) if aside.due(now)]
        except RefnetError as error:
            unknown.append(error)
    return Plan(
        source,
        decide(store.entries(source), retention, now, zone),
        store.leftovers(source),
        tuple(aside for aside in due if not aside.held_back),
        tuple(unknown),
        tuple(aside for aside in due if aside.held_back),
    )


def prune(
    store: Store,
    source: SourceName,
    retention: Retention,
    *,
    now: datetime,
    zone: ZoneInfo | None,
    previous_versions: Iterable[Listing] = (),
) -> Plan:
    """Do what `plan` says, decided again under the source's lock; what was done."""
    found = plan(store, source, retention, now=now, zone=zone, previous_versions=previous_versions)
    if found.changes_nothing:
        return found
    with store.lock(source):
        found = plan(store, source, retention, now=now, zone=zone, previous_versions=previous_versions)
        for decision in found.deleted:
            store.delete(decision.entry)
        for leftover in found.leftovers:
            store.clean(leftover)
        refused = tuple(error for aside in found.previous_versions if (error := _refused(aside)))
    return replace(found, unknown=(*found.unknown, *refused))


def _refused(aside: PreviousVersion) -> RefnetError | None:
    """Remove `aside`; why it could not be: somebody may have begun to use it since the plan."""
    try:
        aside.remove()
    except RefnetError as error:
        return error
    return None
