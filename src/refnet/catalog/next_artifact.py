"""What earlier artifacts of a source decide about the next one: whether it shrank, whether it is proven and digested.

Shrinking: an emptied database backs up, restores and compares without an error, so no proof detects that it contains much
less than the last artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity, SourceId, Whose
from refnet.catalog.manifest import Compared, Entry
from refnet.catalog.source_name import SourceName
from refnet.core import formatting


@dataclass(frozen=True)
class Shrinking:
    """Minimum content, in percent of the last artifact; 0: no check."""

    tables: int = 90
    rows: int = 50
    #: Of the rows as text, or of the files.
    bytes: int = 50
    files: int = 50


#: A smaller loss is ignored, unless nothing is left: a few rows of a small database come and go.
LEAST = {"tables": 1, "rows": 100, "bytes": 1 << 20, "files": 10}
#: A base backup with only what changed: it says nothing of how much there is.
_INCREMENT = "increment"
_DETAILS = {"tables": "tables", "rows": "rows", "bytes": "raw_bytes", "files": "files"}


def marked(made: Made, source: SourceName, entries: Iterable[Entry], limits: Shrinking) -> Made:
    """Mark in `made` what shrank since the last artifact of the same source in `entries`."""
    whose = SourceId(made.identity_id) if made.identity_id else Identity.read(made.details)
    if made.details.get("base") == _INCREMENT:
        return made
    entries = (one for one in entries if one.manifest.details.get("base") != _INCREMENT)
    before = None if made.partial else baseline(source, whose, entries)
    shrank = losses(before.manifest.details, made.details, limits) if before else ()
    return replace(made, shrunk=shrank, shrunk_from=before.name) if before and shrank else made


def baseline(source: SourceName, whose: Whose | None, entries: Iterable[Entry]) -> Entry | None:
    """The last artifact that is complete and undamaged, and did not shrink or was accepted.

    For a database: of the same identity, else of the same name, because a recreated server has a new system identifier
    and may have an empty database.
    """
    good = [e for e in Catalog.of(entries).of_source(source) if e.complete and not e.shrunk]
    if isinstance(whose, SourceId):
        good = list(Catalog(tuple(good)).about(whose, source).entries)
    elif whose:
        named = [entry for entry in good if Identity(whose.database).matches(entry.identity)]
        good = [entry for entry in named if whose.matches(entry.identity)] or named
    return good[-1] if good else None


def losses(before: Mapping[str, Any], after: Mapping[str, Any], limits: Shrinking) -> tuple[str, ...]:
    """What shrank between two manifests' details: `8 tables → 0`."""
    found = []
    for measure, key in _DETAILS.items():
        old, new = before.get(key), after.get(key)
        if type(old) is not int or type(new) is not int:
            continue
        lost = old - new
        if new * 100 < old * getattr(limits, measure) and (lost >= LEAST[measure] or new == 0):
            found.append(_loss(measure, old, new))
    return tuple(found)


def _loss(measure: str, old: int, new: int) -> str:
    if measure == "bytes":
        return f"{formatting.size(old)} of content → {formatting.size(new)}"
    return f"{formatting.plural(old, measure.removesuffix('s'))} → {new:,}"


#: `prove.source = auto`: each backup of at most so many bytes of tables is digested, a larger one once a week.
SMALL = 1 << 30
ALL = 1 << 62
_WEEK = timedelta(days=7)
#: A run that starts a bit earlier than the last one still counts as a day, or a week, later.
_EARLY = timedelta(hours=12)


@dataclass(frozen=True)
class Proving:
    """How often a source is proven and digested: its settings `prove.every` and `prove.source`."""

    #: Days between two proofs; 0: each backup is proven.
    every: int = 0
    #: `count`, `digest` or `auto`.
    source: str = "auto"

    def due(self, entries: Iterable[Entry], now: datetime) -> bool:
        """Whether the next artifact after `entries` is to be proven."""
        proven = [entry.made for entry in entries if entry.proven and entry.complete]
        return not self.every or _is_over(timedelta(days=self.every), proven, now)

    def digest_up_to(self, entries: Iterable[Entry], now: datetime, *, proves: bool) -> int:
        """The most bytes of tables that the source digests for the next artifact after `entries`; 0: it only counts."""
        if self.source == "digest":
            return ALL
        if self.source == "count" or not proves:
            return 0
        digested = [one.made for one in entries if one.proven and one.manifest.compared is Compared.DIGESTED]
        return ALL if _is_over(_WEEK, digested, now) else SMALL


def _is_over(interval: timedelta, times: Iterable[datetime], now: datetime) -> bool:
    return all(now - one > interval - _EARLY or one > now for one in times)
