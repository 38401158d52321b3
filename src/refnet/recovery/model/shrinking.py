"""Whether a source holds much less than its last artifact did, as one that was emptied by mistake does.

What is left of an emptied database backs up, restores and compares without a fault, so no proof notices it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Entry, SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.source import Made


@dataclass(frozen=True)
class Shrinking:
    """How much must be left of the last artifact, in percent of each measure; 0: it does not matter.

    `bytes` are those of the rows as text, or of the files.
    """

    tables: int = 90
    rows: int = 50
    bytes: int = 50
    files: int = 50


#: A loss that is smaller says nothing, unless nothing at all is left: small libraries come and go by a few rows.
LEAST = {"tables": 1, "rows": 100, "bytes": 1 << 20, "files": 10}
_DETAILS = {"tables": "tables", "rows": "rows", "bytes": "raw_bytes", "files": "files"}


def marked(made: Made, source: SourceName, entries: Iterable[Entry], limits: Shrinking) -> Made:
    """`made` with what shrank against the last artifact of the same source among `entries`."""
    before = None if made.partial else baseline(source, made.details, entries)
    shrank = losses(before.manifest.details, made.details, limits) if before else ()
    return replace(made, shrunk=shrank, shrunk_from=before.name) if before and shrank else made


def baseline(source: SourceName, details: Mapping[str, Any], entries: Iterable[Entry]) -> Entry | None:
    """The last artifact that is complete, not damaged and not shrunk itself (or was accepted).

    Of a database it is one of the same identity, else one of the same name: a server that was lost and made anew
    has another identifier, and its database may be empty.
    """
    good = [
        entry
        for entry in Catalog.of(entries).of_source(source)
        if not (entry.manifest.partial or entry.damaged or entry.shrunk)
    ]
    if source is SourceName.DATABASE and (own := Identity.read(details)):
        named = [entry for entry in good if Identity(own.database).matches(entry.identity)]
        good = [entry for entry in named if own.matches(entry.identity)] or named
    return good[-1] if good else None


def losses(before: Mapping[str, Any], after: Mapping[str, Any], limits: Shrinking) -> tuple[str, ...]:
    """What shrank from `before` to `after`, the details of two manifests: `8 tables → 0`."""
    found = []
    for measure, key in _DETAILS.items():
        old, new = before.get(key), after.get(key)
        if type(old) is not int or type(new) is not int:
            continue
        lost = old - new
        if new * 100 < old * getattr(limits, measure) and (lost >= LEAST[measure] or new == 0):
            found.append(_told(measure, old, new))
    return tuple(found)


def _told(measure: str, old: int, new: int) -> str:
    if measure == "bytes":
        return f"{formatting.size(old)} of content → {formatting.size(new)}"
    return f"{formatting.plural(old, measure.removesuffix('s'))} → {new:,}"
