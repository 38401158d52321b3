"""How often a source is proven and digested: its settings `prove.every` and `prove.source`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from refnet.catalog.manifest import Compared, Entry

#: `prove.source = auto`: each backup of at most so many bytes of tables is digested, a larger one once a week.
SMALL = 1 << 30
ALL = 1 << 62
_WEEK = timedelta(days=7)
#: A run that starts a bit earlier than the last one still counts as a day, or a week, later.
_EARLY = timedelta(hours=12)


@dataclass(frozen=True)
class Proving:
    """The settings of a source."""

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
