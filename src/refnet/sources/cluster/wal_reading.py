"""Reads the segments in an archive of WAL again, and compares them with its index: all, or a share each night.

A segment that differs counts as missing from then on: recoveries take another road, and the monitor has an alarm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import groupby

from refnet.catalog import wal
from refnet.catalog.artifact import Finding, Progress, silent, stopped_by
from refnet.catalog.cluster_base import NeededWal, facts_of
from refnet.catalog.manifest import Entry, Outcome
from refnet.catalog.wal import SHARES, Gap, Segment
from refnet.catalog.wal_status import reachable
from refnet.core.errors import RefnetError
from refnet.core.formatting import local, plural, some
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.wal_archive import SMALL, THREADS, WalArchive

#: The most segments that are named in a sentence.
_NAMED = 3


@dataclass(frozen=True)
class WalReading:
    """A reading of the segments that base backups need."""

    archive: WalArchive
    needed: NeededWal
    #: All base backups of the source: the next one after a gap makes later moments reachable.
    bases: Sequence[Entry]
    now: datetime
    #: The remote stores that may have what is damaged here.
    stores: Sequence[str] = ()
    progress: Progress = silent

    def read(self, *, share: bool = False) -> Finding:
        """Read the segments, record which are damaged, and say what that means.

        share: only the share that was not read for the longest time. Gaps then are no failure: the monitor has them.
        """
        known = self.archive.last_reading()
        number = known.next_share
        size = self.archive.segment_size
        chosen = [one for one in self._every if not share or one.start // size % SHARES == number]
        wrong = self._compare(chosen)
        damaged = [name for name, found in wrong.items() if found.outcome is Outcome.FAILED]
        times = [self.now] * SHARES
        if share:
            times = [*known.shares[:number], self.now, *known.shares[number + 1 :]]
        read = [one.file for one in chosen if one.file in damaged or one.file not in wrong]
        wal_writer.keep_reading(self.archive, read, damaged, times)
        says = [*self._said(chosen, wrong, f" (share {number + 1} of {SHARES})" if share else "")]
        # On the way to the timeline that was received last.
        way = (self.needed.begin.start_lsn, self.archive.timeline)
        holes = () if share and not damaged else self.archive.gaps(*way)
        base, unhealed = reachable(self.bases, self.needed.system_identifier, holes, size)
        says += self._lost(holes, base if not unhealed else None)
        failed = damaged or unhealed
        outcome = Outcome.FAILED if failed else Outcome.UNVERIFIED if wrong else Outcome.PASSED
        return Finding("WAL", outcome, "; ".join(says))

    @cached_property
    def _every(self) -> list[Segment]:
        begin, keep = self.needed.segments(self.archive.segment_size)
        first = wal.start_of(begin, self.archive.segment_size)
        there = (one for each in self.archive.timelines() for one in self.archive.segments(each))
        return [one for one in there if one.start >= first or one.name in keep]

    def _compare(self, chosen: Sequence[Segment]) -> Mapping[str, Finding]:
        """What is wrong, by name in the index: it differs, or cannot be read. One that is pruned meanwhile is not wrong."""
        size = self.archive.segment_size

        def compare(segment: Segment) -> Finding | None:
            try:
                self.archive.compare(segment)
            except RefnetError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    return stopped_by(segment.file, error)
            return None

        found = dict[str, Finding]()
        with ThreadPoolExecutor(THREADS if size <= SMALL else 1, "wal") as pool:
            for number, (one, wrong) in enumerate(zip(chosen, pool.map(compare, chosen), strict=True), 1):
                self.progress("read WAL", number * size, len(chosen) * size)
                if wrong:
                    found[one.file] = wrong
        return found

    def _said(self, chosen: Sequence[Segment], wrong: Mapping[str, Finding], part: str) -> Iterator[str]:
        """What was read, and what came of it."""
        for outcome, what in ((Outcome.FAILED, "damaged"), (Outcome.UNVERIFIED, "not read")):
            if names := [name for name, one in wrong.items() if one.outcome is outcome]:
                yield f"{what}, {len(names):,} of {plural(len(chosen), 'segment')}{part}: {some(names, _NAMED)}"
        if part and chosen and not wrong:
            yield f"{len(chosen):,} of {plural(len(self._every), 'segment')} read{part}, all match"
            if whole := self.archive.last_reading().whole_since:
                yield f"each was read since {local(whole)}"
        elif chosen and not wrong:
            ranges = groupby(chosen, lambda one: wal.timeline_of(one.name))
            yield f"{'; '.join(_range(number, [*those]) for number, those in ranges)}, all match"

    def _lost(self, holes: Sequence[Gap], base: Entry | None) -> Iterator[str]:
        """Which moments cannot be restored. `base`: the first base backup after all `holes`."""
        if not holes:
            return
        damaged: Collection[str] = {*self.archive.last_reading().damaged}
        if missing := [str(one) for one in holes if one.first not in damaged]:
            yield f"missing: {some(missing, _NAMED)}"
        first = wal.start_of(holes[0].first, self.archive.segment_size)
        before = (one.last_commit for one in self._every if one.start < first and one.file not in damaged)
        since = max((one for one in before if one), default=None)
        lost = local(since) if since else f"the beginning of {holes[0].first}"
        if base:
            yield f"moments between {lost} and {local(base.published)} cannot be restored, later ones can"
        else:
            again = f"`refnet backup {self.bases[0].source}` makes later ones reachable"
            yield f"moments after {lost} cannot be restored; {again}"
        begin = next((one.name for one in self.bases if facts_of(one) == self.needed.begin), "")
        for store in self.stores if begin else ():
            yield f"`refnet fetch {begin} --store {store}` brings back what {store} has"


def _range(timeline: int, segments: Sequence[Segment]) -> str:
    ends = (
        f" from {segments[0].name} to {segments[-1].name}" if len(segments) > 1 else f", {segments[0].name}"
    )
    return f"{plural(len(segments), 'segment')} of timeline {timeline}{ends}"
