"""accept: record that a shrunk source is intended, so that later artifacts are compared with this one."""

from __future__ import annotations

from refnet.actions.choose import choose_one
from refnet.actions.context import Context
from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Entry, Evidence, Level, Outcome


def plan(context: Context, name: str) -> Entry:
    """Return the entry that would be accepted; RefnetError if it has not shrunk."""
    chosen = choose_one(context.store, name)
    entry = chosen.entry
    if entry is None:
        raise RefnetError(
            f"{chosen.name} is not in the catalog", "Give a name from `refnet list`.", Exit.USAGE
        )
    if not entry.shrunk:
        known = "is accepted already" if entry.manifest.shrunk else "has not shrunk"
        raise RefnetError(f"{entry.name} {known}", "There is nothing to accept.", Exit.USAGE)
    return entry


def accept(context: Context, entry: Entry) -> None:
    """Record that the shrinkage of `entry` is intended."""
    reasons = (f"accepted: {'; '.join(entry.manifest.shrunk)}",)
    now = context.clock.now()
    line = Evidence(now, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=reasons, accepts=True)
    with context.store.lock(entry.source):
        context.store.record(entry, line)
