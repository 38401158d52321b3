"""The state of the WAL of a cluster of the settings: its receiver, and what its archive contains."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from refnet.catalog.wal import Gap, lsn_text
from refnet.catalog.wal_stream import StreamReport
from refnet.core.records import utc
from refnet.settings import Settings
from refnet.sources.cluster.wal_archive import WalArchive


@dataclass(frozen=True)
class StreamStatus:
    """The WAL of one cluster at `now`."""

    cluster: str
    now: datetime
    #: None: no receiver ever ran on this machine.
    archive: WalArchive | None = None
    report: StreamReport | None = None
    #: Whether a receiver runs.
    is_received: bool = False
    #: Of the timeline that was received last, from its oldest segment on.
    gaps: tuple[Gap, ...] = ()
    last_commit: datetime | None = None
    #: Segments in the archive, and their bytes there.
    segments: int = 0
    stored_bytes: int = 0
    #: It is in REFNET_HOME, not encrypted yet.
    is_unsealed: bool = False

    @classmethod
    def read(cls, settings: Settings, cluster: str, now: datetime) -> StreamStatus:
        """Read the state of `cluster`; RefnetError if its archive cannot be read."""
        archive = WalArchive.known(settings, cluster)
        if archive is None or not archive.exists():
            return cls(cluster, now)
        report = archive.report()
        there = [one for each in archive.timelines() for one in archive.segments(each)]
        newest = max((one.name for one in there), default="")
        timeline = report.timeline if report else int(newest[:8] or "1", 16)
        first = min((one.start for one in there), default=None)
        return cls(
            cluster,
            now,
            archive,
            report,
            archive.is_received(),
            archive.gaps(first, timeline) if first is not None else (),
            archive.last_commit(),
            len(there),
            sum(one.size for one in there),
            settings.encryption_local,
        )

    @property
    def lag(self) -> timedelta | None:
        """The greatest age of an acknowledged commit that would be lost with the server's disk now; None: unknown."""
        return self.report.lag(self.now) if self.report else None

    def to_json(self) -> dict[str, Any]:
        """Times in UTC, durations in seconds."""
        report, lag = self.report, self.lag
        return {
            "cluster": self.cluster,
            "receiver_runs": self.is_received,
            "state": report.state if report and self.is_received else "stopped",
            "archive": str(self.archive.folder) if self.archive else None,
            "system_identifier": self.archive.folder.name if self.archive else None,
            "timeline": report.timeline if report else None,
            "server_lsn": lsn_text(report.server_lsn) if report else None,
            "received_lsn": lsn_text(report.received_lsn) if report else None,
            "lag_bytes": report.lag_bytes if report else None,
            "lag_seconds": round(lag.total_seconds(), 3) if lag is not None else None,
            "received_until": utc(report.received_until) if report and report.received_until else None,
            "last_commit": utc(self.last_commit) if self.last_commit else None,
            "gaps": [{"first": one.first, "last": one.last, "segments": one.number} for one in self.gaps],
            "segments": self.segments,
            "stored_bytes": self.stored_bytes,
            "slot": report.slot if report else None,
            "slot_status": report.slot_status if report else None,
            "slot_left_bytes": report.slot_left if report else None,
            "encrypted": False if self.is_unsealed else None,
            "message": (report.message if report else "") or None,
            "hint": (report.hint if report else "") or None,
        }
