"""Reads the state of the WAL of clusters from their archives."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from refnet.catalog.manifest import Entry
from refnet.catalog.wal_status import StoreLag, StreamStatus, reachable
from refnet.settings import Settings
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.cluster.wal_offsite import stores_of
from refnet.store.wal_sending import last_sent


def with_wal(settings: Settings) -> list[str]:
    """The clusters whose WAL is received."""
    return [name for name, one in settings.clusters.items() if one.wal]


def read_status(
    settings: Settings, cluster: str, entries: Iterable[Entry], now: datetime, *, live: bool = False
) -> StreamStatus:
    """The state of the WAL of `cluster`; RefnetError if its archive cannot be read.

    Args:
        entries: of all artifacts.
        live: also read the last commit in the segment that is being received, by pg_waldump.
    """
    archive = WalArchive.known(settings, cluster)
    if archive is None or not archive.exists():
        return StreamStatus(cluster, now)
    report, size = archive.report(), archive.segment_size
    there = [one for each in archive.timelines() for one in archive.segments(each)]
    newest = max((one.name for one in there), default="")
    first = min((one.start for one in there), default=None)
    timeline = report.timeline if report else int(newest[:8] or "1", 16)
    gaps = archive.gaps(first, timeline) if first is not None else ()
    base, still_open = reachable(entries, archive.folder.name, gaps, size)
    return StreamStatus(
        cluster,
        now,
        str(archive.folder),
        archive.folder.name,
        size,
        report,
        archive.is_received(),
        gaps,
        archive.last_commit()
        if live
        else max((one.last_commit for one in there if one.last_commit), default=None),
        len(there),
        sum(one.size for one in there),
        settings.encryption_local,
        base,
        still_open,
        tuple(_store(settings, one, archive) for one in stores_of(settings, cluster)),
    )


def _store(settings: Settings, store: str, archive: WalArchive) -> StoreLag:
    sent = last_sent(settings.home / "remote" / settings.store(store).name, archive.folder.name)
    return StoreLag(store, sent.at, sent.covered_until) if sent else StoreLag(store)
