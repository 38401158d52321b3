"""accept: record that a shrunk source is intended, so that later artifacts are compared with this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refnet.actions.choose import choose_listed
from refnet.actions.context import Context
from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome


@dataclass(frozen=True)
class Acceptance:
    """The acceptance of an artifact that shrank."""

    entry: Entry
    #: False: only planned.
    accepted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "source": self.entry.source,
            "shrunk": list(self.entry.manifest.shrunk),
            "shrunk_from": self.entry.manifest.shrunk_from,
            "accepted": self.accepted,
        }


def plan(context: Context, name: str) -> Acceptance:
    """Return what would be accepted; RefnetError if it has not shrunk."""
    entry = choose_listed(context.catalog, name)
    if not entry.shrunk:
        known = "is accepted already" if entry.manifest.shrunk else "has not shrunk"
        raise RefnetError(f"{entry.name} {known}", "There is nothing to accept.", Exit.USAGE)
    return Acceptance(entry)


def accept(context: Context, planned: Acceptance) -> Acceptance:
    """Record that the shrinkage is intended."""
    entry = planned.entry
    reasons = (f"accepted: {'; '.join(entry.manifest.shrunk)}",)
    now = context.clock.now()
    line = Evidence(now, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=reasons, accepts=True)
    with context.catalog.lock(entry.source):
        context.catalog.record(entry, line)
    return replace(planned, accepted=True)
