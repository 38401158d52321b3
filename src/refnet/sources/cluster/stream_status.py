"""Reads the state of the WAL of clusters from their archives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import Kind, SourceName, bases_name
from refnet.catalog.wal import PARTIAL, Gap
from refnet.catalog.wal_status import StoreLag, StreamStatus, reachable
from refnet.settings import Settings
from refnet.settings.sources import server_of
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.cluster.wal_offsite import stores_of
from refnet.store.remote import home_of
from refnet.store.wal_sending import last_sent


def with_wal(settings: Settings) -> list[str]:
    """The clusters whose WAL is received."""
    return [name for name, one in settings.clusters.items() if one.wal]


def streamed(settings: Settings, source: str) -> SourceName | None:
    """The base backups of the cluster that the database `source` is in, or on whose server; None: its WAL is not archived."""
    own = settings.sources.get(source)
    if own is None or own.table != "databases":
        return None
    for one in (settings.clusters[name] for name in with_wal(settings)):
        on_one = own.url and one.url and server_of(own.url)[0] == server_of(one.url)[0]
        if own.cluster == one.name or (not own.cluster and on_one):
            return SourceName(bases_name(one.name), Kind.CLUSTER)
    return None


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
    if report and report.received_until:  # it counts while what was received is here
        report = replace(report, received_until=archive.covered_until())
    there = [one for each in archive.timelines() for one in archive.segments(each)]
    bases = (facts for one in entries if (facts := facts_of(one)))
    begins = [one.start_lsn for one in bases if one.system_identifier == archive.folder.name]
    first = min([*begins, *(one.start for one in there)], default=None)
    gaps, reading = archive.gaps(first, archive.timeline) if first is not None else (), archive.last_reading()
    base, still_open = reachable(entries, archive.folder.name, gaps, size)
    if still_open:
        base, _ = reachable(
            entries, archive.folder.name, [one for one in gaps if one not in still_open], size
        )
    indexed = max((one.last_commit for one in there if one.last_commit), default=None)
    return StreamStatus(
        cluster,
        now,
        archive=str(archive.folder),
        system_identifier=archive.folder.name,
        segment_bytes=size,
        report=report,
        is_received=archive.is_received(),
        gaps=gaps,
        last_commit=archive.last_commit() if live else indexed,
        segments=len(there),
        stored_bytes=sum(one.size for one in there),
        is_unsealed=settings.encryption_local,
        base=base,
        open_gaps=still_open,
        before_gap=archive.last_moment(still_open[0].first) if still_open else None,
        damaged=frozenset(one.removesuffix(PARTIAL) for one in reading.damaged),
        read_since=reading.whole_since,
        stores=tuple(_store(settings, one, archive, entries) for one in stores_of(settings, cluster)),
    )


def _store(settings: Settings, store: str, archive: WalArchive, entries: Iterable[Entry]) -> StoreLag:
    sent = last_sent(home_of(settings, settings.store(store).name), archive.folder.name)
    if sent is None:
        return StoreLag(store)
    lost = [Gap(sent.never_sent, sent.never_sent, 1)] if sent.never_sent else []
    _, still_lost = reachable(entries, archive.folder.name, lost, archive.segment_size)
    return StoreLag(store, sent.at, sent.covered_until, sent.never_sent if still_lost else "")
