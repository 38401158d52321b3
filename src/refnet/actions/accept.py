"""accept: record that a user knows an anomaly of an artifact, so that later artifacts may have it too.

It contains much less than the previous artifact, or its source has objects that no server accepts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from refnet import wiring
from refnet.actions.choose import choose_listed
from refnet.catalog.artifact import Proof
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.store.cluster_record import ClusterRecord


@dataclass(frozen=True)
class GoneAcceptance:
    """The acceptance of a gone source."""

    source: str
    #: Its cluster, whose server no longer has the database; "": it is of none.
    cluster: str = ""
    database: str = ""
    #: False: only planned.
    accepted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "gone": self.database or self.source, "accepted": self.accepted}


def plan_gone(context: Context, name: str) -> GoneAcceptance | None:
    """Planned acceptance of the gone source `name`; None if it is not gone."""
    for cluster in context.settings.clusters:
        seen = ClusterRecord.at(context.settings.home, cluster).read()
        for source, database in seen.members(cluster).items():
            if source == name and database in seen.gone:
                return GoneAcceptance(source, cluster, database)
    return next((GoneAcceptance(one) for one in wiring.gone(context.settings) if one == name), None)


def accept_gone(context: Context, planned: GoneAcceptance) -> GoneAcceptance:
    """Record that the source may be gone; its artifacts stay."""
    if not planned.cluster:
        wiring.identities(context.settings).accept(planned.source)
        return replace(planned, accepted=True)
    record = ClusterRecord.at(context.settings.home, planned.cluster)
    seen = record.read()
    record.write(replace(seen, gone=tuple(one for one in seen.gone if one != planned.database)))
    return replace(planned, accepted=True)


@dataclass(frozen=True)
class Acceptance:
    """The acceptance of an artifact that shrank, or whose source has objects that no server accepts."""

    entry: Entry
    #: False: only planned.
    accepted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "source": self.entry.source,
            "shrunk": list(self.entry.manifest.shrunk),
            "shrunk_from": self.entry.manifest.shrunk_from,
            "objects": list(self.entry.faulty),
            "accepted": self.accepted,
        }


def plan(context: Context, name: str) -> Acceptance:
    """Planned acceptance; RefnetError if there is nothing to accept."""
    entry = choose_listed(context.catalog, name)
    if not (entry.shrunk or entry.unaccepted):
        known = "is accepted already" if entry.manifest.shrunk or entry.faulty else "has not shrunk"
        raise RefnetError(f"{entry.name} {known}", "There is nothing to accept.", Exit.USAGE)
    return Acceptance(entry)


def accept(context: Context, planned: Acceptance) -> Acceptance:
    """Record the acceptance."""
    entry, now = planned.entry, context.clock.now()
    lines = []
    if entry.shrunk:
        lines.append(_line(now, f"accepted: {'; '.join(entry.manifest.shrunk)}"))
    if entry.unaccepted:
        lines.append(_line(now, f"accepted: {'; '.join(entry.faulty)}", entry.faulty))
    with context.catalog.lock(entry.source):
        context.catalog.record(entry, *lines)
    return replace(planned, accepted=True)


def carried(entries: Iterable[Entry], manifest: Manifest, proof: Proof, at: datetime) -> Evidence | None:
    """Line of evidence that repeats earlier acceptances of objects in `proof`.

    entries: known artifacts of the source. None: nothing was accepted before.
    """
    database = manifest.details.get("database")
    others = (
        e for e in entries if e.source == manifest.source and e.manifest.details.get("database") == database
    )
    accepted = frozenset().union(*(entry.accepted for entry in others))
    if objects := tuple(one for one in proof.faulty if one in accepted):
        return _line(at, f"accepted before: {'; '.join(objects)}", objects)
    return None


def _line(at: datetime, reason: str, objects: tuple[str, ...] = ()) -> Evidence:
    return Evidence(
        at, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=(reason,), accepts=True, objects=objects
    )
