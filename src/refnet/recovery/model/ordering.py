"""The order of artifacts: a machine's own by their numbers, whatever its clock said; the others by their times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from refnet.recovery.model.artifact import Entry
from refnet.recovery.model.identity import Whose
from refnet.recovery.model.source_name import SourceName


def ordered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return `entries`, oldest first.

    A numbered artifact counts as made no later than the next one of its source: one run with a clock that was ahead
    comes before the runs after it.
    """
    there = tuple(entries)
    times = _times(there)
    return tuple(
        sorted(there, key=lambda e: (times.get(id(e), e.made), e.manifest.number or 0, e.created, e.name))
    )


def _times(there: tuple[Entry, ...]) -> dict[int, datetime]:
    """Return the time of each numbered artifact, by its object: the earliest of its own and of those after it."""
    # A database that continues one of another server goes on with its numbers.
    first = {
        entry.identity: replace(entry.identity, system=entry.manifest.continues[0])
        for entry in there
        if entry.identity and entry.manifest.continues
    }
    numbered: dict[tuple[SourceName, Whose | None], list[tuple[int, Entry]]] = {}
    for entry in there:
        if number := entry.manifest.number:
            whose = first.get(entry.identity, entry.whose) if entry.identity else entry.whose
            numbered.setdefault((entry.source, whose), []).append((number, entry))
    times: dict[int, datetime] = {}
    for own in numbered.values():
        latest: datetime | None = None
        for _, entry in sorted(own, key=lambda one: (one[0], one[1].made), reverse=True):
            times[id(entry)] = latest = min(entry.made, latest or entry.made)
    return times
