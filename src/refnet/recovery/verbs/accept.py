"""accept: say that what shrank was meant, so that the artifact is what later ones are compared with."""

from __future__ import annotations

from datetime import datetime

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome
from refnet.recovery.model.store import Store
from refnet.recovery.verbs.choose import Chosen


def plan(chosen: Chosen) -> Entry:
    """The entry that would be accepted; RefnetError where there is nothing to accept."""
    entry = chosen.entry
    if entry is None or chosen.store is None:
        raise RefnetError(
            f"{chosen.name} is not in the catalog", "Give a name that `refnet list` shows.", Exit.USAGE
        )
    if not entry.shrunk:
        known = "is accepted already" if entry.manifest.shrunk else "has not shrunk"
        raise RefnetError(f"{entry.name} {known}", "Nothing is to be accepted.", Exit.USAGE)
    return entry


def accept(store: Store, entry: Entry, now: datetime) -> None:
    """Record that what shrank in `entry` was meant."""
    reasons = (f"accepted: {'; '.join(entry.manifest.shrunk)}",)
    line = Evidence(now, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=reasons, accepts=True)
    with store.lock(entry.source):
        store.record(entry, line)
