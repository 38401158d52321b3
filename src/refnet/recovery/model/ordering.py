"""The order of artifacts: a machine's own by their numbers, whatever its clock said; the others by their times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from operator import ne

from refnet.recovery.model.artifact import Entry
from refnet.recovery.model.identity import Whose
from refnet.recovery.model.source_name import SourceName


def ordered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return `entries`, oldest first.

    Where the times of a source's numbered artifacts contradict their numbers, a clock was wrong: as few times as possible
    count as others, so one run with a clock that was ahead, or behind, comes between the runs before and after it.
    """
    there = tuple(entries)
    times = _times(there)
    return tuple(
        sorted(there, key=lambda e: (times.get(id(e), e.made), e.manifest.number or 0, e.created, e.name))
    )


def _times(there: tuple[Entry, ...]) -> dict[int, datetime]:
    """Return the time of each numbered artifact, by its object: no later than the next one, or no earlier than the last."""
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
        entries = [entry for _, entry in sorted(own, key=lambda one: (one[0], one[1].made))]
        made = [entry.made for entry in entries]
        lowered, raised = [*accumulate(reversed(made), min)][::-1], [*accumulate(made, max)]
        is_behind = sum(map(ne, made, raised)) < sum(map(ne, made, lowered))
        times |= zip(map(id, entries), raised if is_behind else lowered, strict=True)
    return times
