"""The state of the WAL of a cluster: what its receiver reports, what its archive contains, and what the monitor says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from refnet.catalog.cluster_base import broken, facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring import Check, Status
from refnet.catalog.source_name import Kind, SourceName, bases_name
from refnet.catalog.wal import Gap, lsn_text, start_of
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.core import formatting
from refnet.core.records import utc

#: The lag from which the monitor warns, and from which it is critical. A restart of either machine is no alarm.
LAG = (timedelta(minutes=5), timedelta(minutes=30))
#: Bytes that the server can still write before it drops WAL: with less the monitor warns.
_LEFT = 1 << 30


@dataclass(frozen=True)
class StoreLag:
    """How far the WAL in a remote store is."""

    store: str
    #: When something was sent there last, or nothing was new; None: never.
    at: datetime | None = None
    #: Each commit that the server acknowledged before this moment is there; None: unknown.
    covered_until: datetime | None = None
    #: Segments up to this one were deleted here before they were sent, and no base backup is newer; "": none were.
    never_sent: str = ""

    def to_json(self) -> dict[str, Any]:
        """Times in UTC."""
        return {
            "store": self.store,
            "sent": utc(self.at) if self.at else None,
            "covered_until": utc(self.covered_until) if self.covered_until else None,
            "never_sent": self.never_sent or None,
        }


@dataclass(frozen=True)
class StreamStatus:
    """The WAL of one cluster at `now`."""

    cluster: str
    now: datetime
    #: The folder of its archive; "": no receiver ever ran on this machine.
    archive: str = ""
    system_identifier: str = ""
    segment_bytes: int = 0
    report: StreamReport | None = None
    #: Whether a receiver runs.
    is_received: bool = False
    #: On the way to the timeline that was received last, from its oldest segment on.
    gaps: tuple[Gap, ...] = ()
    last_commit: datetime | None = None
    #: Segments in the archive, and their bytes there.
    segments: int = 0
    stored_bytes: int = 0
    #: It is in REFNET_HOME, not encrypted.
    is_unsealed: bool = False
    #: The oldest base backup from whose end on every moment up to the first of `open_gaps` can be restored; None: none can.
    base: Entry | None = None
    #: Gaps that no newer base backup has healed: moments after them cannot be restored.
    open_gaps: tuple[Gap, ...] = ()
    #: The last moment before the first of them; None: unknown.
    before_gap: datetime | None = None
    #: Names of damaged segments, which are also gaps, and the moment since which every segment was read; None: some never were.
    damaged: frozenset[str] = frozenset()
    read_since: datetime | None = None
    #: The remote stores that get the WAL.
    stores: tuple[StoreLag, ...] = ()

    @property
    def source(self) -> SourceName:
        return SourceName(bases_name(self.cluster), Kind.CLUSTER)

    @property
    def lag(self) -> timedelta | None:
        """The greatest age of an acknowledged commit that would be lost with the server's disk now; None: unknown."""
        return self.report.lag(self.now) if self.report else None

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The moments that can be restored, from, to; None: none."""
        received = self.report.received_until if self.report else None
        until = self.before_gap if self.open_gaps else received
        if self.base is None or until is None or until < self.base.published:
            return None
        return self.base.published, until

    def lag_in(self, store: str) -> Iterator[str]:
        """How far the WAL in the remote store `store` is; nothing, if it gets none."""
        yield from (_store_lag(self, one)[1] for one in self.stores if one.store == store)

    def to_json(self) -> dict[str, Any]:
        """Times in UTC, durations in seconds."""
        report, lag, window = self.report, self.lag, self.window
        return {
            "cluster": self.cluster,
            "receiver_runs": self.is_received,
            "state": report.state if report and self.is_received else StreamState.STOPPED,
            "archive": self.archive or None,
            "system_identifier": self.system_identifier or None,
            "timeline": report.timeline if report else None,
            "server_lsn": lsn_text(report.server_lsn) if report else None,
            "received_lsn": lsn_text(report.received_lsn) if report else None,
            "lag_bytes": report.lag_bytes if report else None,
            "lag_seconds": round(lag.total_seconds(), 3) if lag is not None else None,
            "received_until": utc(report.received_until) if report and report.received_until else None,
            "last_commit": utc(self.last_commit) if self.last_commit else None,
            "restorable_from": utc(window[0]) if window else None,
            "restorable_until": utc(window[1]) if window else None,
            "gaps": [_of_gap(one) for one in self.gaps],
            "open_gaps": [_of_gap(one) for one in self.open_gaps],
            "damaged": sorted(self.damaged),
            "read_since": utc(self.read_since) if self.read_since else None,
            "segments": self.segments,
            "stored_bytes": self.stored_bytes,
            "slot": report.slot if report else None,
            "slot_status": report.slot_status if report else None,
            "slot_left_bytes": report.slot_left if report else None,
            "stores": [one.to_json() for one in self.stores],
            "encrypted": False if self.is_unsealed else None,
            "message": (report.message if report else "") or None,
            "hint": (report.hint if report else "") or None,
        }


def _of_gap(gap: Gap) -> dict[str, Any]:
    return {"first": gap.first, "last": gap.last, "segments": gap.number}


def reachable(
    entries: Iterable[Entry], identifier: str, gaps: Iterable[Gap], size: int
) -> tuple[Entry | None, tuple[Gap, ...]]:
    """The oldest base from which all WAL is there, and the gaps after the newest base; of bases whose chain is whole.

    identifier: of the system that the WAL is of. size: bytes of a segment.
    """
    there = list(entries)
    unusable = broken(there)
    facts = ((one, found) for one in there if one.name not in unusable and (found := facts_of(one)))
    own = ((found.start_lsn, one) for one, found in facts if found.system_identifier == identifier)
    bases = sorted(own, key=lambda base: base[0])
    ends = [(start_of(gap.last, size) + size, gap) for gap in gaps]
    newest = bases[-1][0] if bases else 0
    after = max((end for end, _ in ends), default=0)
    oldest = next((one for start, one in bases if start >= after), None)
    return oldest, tuple(gap for end, gap in ends if end > newest)


def watch_stream(found: StreamStatus) -> Iterator[Check]:
    """Check the lag, the gaps and the slot of a cluster with WAL."""
    report = found.report
    if report is None:
        says = "no WAL was received on this machine: `refnet schedule install` makes the service, `refnet wal run` runs it"
        yield Check(found.source, "stream", Status.WARNING, says)
        return
    yield Check(found.source, "stream", *_lag(found, report))
    for store in found.stores:
        yield Check(found.source, f"WAL in {store.store}", *_store_lag(found, store))
    if found.open_gaps:
        names = formatting.some([*map(str, found.open_gaps)], 3)
        are_there = all(one.first in found.damaged for one in found.open_gaps)
        says = f"WAL is damaged: {names}" if are_there else f"WAL is missing: {names}"
        says += f"; `refnet backup {found.source}` makes later moments reachable"
        yield Check(found.source, "gaps", Status.CRITICAL, says)
    if report.slot_status in {"lost", "unreserved"}:
        says = f"{report.slot} is {report.slot_status}: the server drops WAL that was not received"
        yield Check(found.source, "slot", Status.CRITICAL, says)
    elif report.slot_left is not None and report.slot_left < _LEFT and report.lag_bytes > report.slot_left:
        says = f"the server drops WAL that was not received after {formatting.size(report.slot_left)} more"
        yield Check(found.source, "slot", Status.WARNING, says)


def _store_lag(found: StreamStatus, store: StoreLag) -> tuple[Status, str]:
    """The status of what a remote store lacks, and a sentence."""
    if store.covered_until is None:
        return Status.WARNING, f"no WAL was sent to {store.store} yet: `refnet wal run` sends it"
    if store.never_sent:
        says = f"segments up to {store.never_sent} were deleted here before {store.store} got them: `refnet backup {found.source}`, then `refnet copy`"
        return Status.CRITICAL, says
    lag = max(timedelta(0), found.now - store.covered_until)
    status = Status.CRITICAL if lag > LAG[1] else Status.WARNING if lag > LAG[0] else Status.OK
    return status, f"commits up to {formatting.seconds(lag.total_seconds())} ago are in {store.store}"


def _lag(found: StreamStatus, report: StreamReport) -> tuple[Status, str]:
    """The status of the lag, and a sentence."""
    why = report.message or ("" if found.is_received else "no receiver runs")
    lag = found.lag
    if lag is None:
        return Status.WARNING, why or "nothing was received yet"
    says = f"commits up to {formatting.seconds(lag.total_seconds())} ago are received"
    status = Status.CRITICAL if lag > LAG[1] else Status.WARNING if lag > LAG[0] else Status.OK
    return status, f"{says}; {why}" if why else says
