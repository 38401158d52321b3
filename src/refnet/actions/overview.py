"""The overview of the sources, read from the backup folder, the journal of runs and the remote stores.

`refnet monitor`, the metrics and the pages show what is read here (`telemetry/facts.py`); a second read reads only changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from refnet import wiring
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Entry
from refnet.catalog.monitoring import GRACE
from refnet.catalog.remote_state import StoreState
from refnet.catalog.source_name import STANDARD, SourceName
from refnet.catalog.wal_status import StreamStatus
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources import half_made, recorded, source_of
from refnet.sources.cluster.stream_status import read_status, streamed, with_wal
from refnet.store import settings_copies
from refnet.store.keys import stale_pages
from refnet.store.remote_states import StoreStates
from refnet.store.sealed import SealedStore
from refnet.store.store_check import last_checks, last_drills
from refnet.telemetry.facts import Facts, Overview, overview, unreadable


def overview_reader(
    settings: Settings, now: Callable[[], datetime] = utc_now, only: SourceName | None = None
) -> Callable[[], Overview]:
    """Reader of the overview of all sources or `only` one; rereads only changes.

    A database that does not respond costs 3 s, and then only its name is known. An unreadable store or journal is
    `unknown`, never ok; a folder that is not the store of earlier runs is critical. RefnetError: an invalid setting.
    """
    asked = only in {None, SourceName.DATABASE} and SourceName.DATABASE in wiring.configured(settings)
    read: Callable[[Whose | None], Facts] | None = None

    def look() -> Overview:
        nonlocal read
        target = source_of(settings, SourceName.DATABASE).whose() if asked else None
        try:
            read = read or facts_reader(settings, now)
            return overview(read(target), only)
        except RefnetError as error:
            return unreadable(now(), error)

    return look


def facts_reader(settings: Settings, now: Callable[[], datetime]) -> Callable[[Whose | None], Facts]:
    """Reader of the facts for a database; rereads only changes."""
    artifacts, runs, schedule = wiring.store(settings), wiring.journal(settings), settings.schedule
    stores, own = _states(settings, now), wiring.sealed(settings) if settings.encryption_local else None
    allowed, known = wiring.limits(settings), wiring.known(settings)
    databases = [one for one in known if one not in STANDARD and one.kind.row.by_name]
    by_wal = {one: bases for one in databases if (bases := streamed(settings, one))}
    named: dict[SourceName, Whose | None] = {one: source_of(settings, one).named() for one in databases}

    def read(target: Whose | None) -> Facts:
        trouble, moment = artifacts.trouble(), now()
        entries, leftovers, unlisted = artifacts.contents()
        here, bare = tuple[StoreState, ...](), tuple[str, ...]()
        if own and not trouble:
            state, bare = _own_state(own, known), _bare(settings, entries, now())
            here, entries = (state,), state.copies
        free, history = artifacts.free_bytes(), runs.history()
        return Facts(
            moment, Catalog.of(entries, moment), leftovers, unlisted, free, history, wiring.configured(settings), schedule, allowed,
            {SourceName.DATABASE: target, **named, **_ids(settings, known)}, trouble, recorded(settings), timedelta(days=settings.retention_previous),
            (*here, *stores()), last_checks(settings.home / "remote", settings.stores), bare, half_made(settings), wiring.gone(settings),
            _stale_pages(settings), _streams(settings, entries, moment), by_wal,
            last_drills(settings.home / "remote", settings.stores),
        )  # fmt: skip

    return read


def _streams(settings: Settings, entries: Sequence[Entry], now: datetime) -> tuple[StreamStatus, ...]:
    """The WAL of clusters; one whose archive cannot be read is as one without a report."""
    found = list[StreamStatus]()
    for cluster in with_wal(settings):
        try:
            found.append(read_status(settings, cluster, entries, now))
        except RefnetError:  # `refnet wal status` says why
            found.append(StreamStatus(cluster, now))
    return tuple(found)


def _ids(settings: Settings, names: Iterable[SourceName]) -> dict[SourceName, Whose | None]:
    """This machine's identities, by source."""
    return {one: source_of(settings, one).whose() for one in names if not one.kind.row.by_name}


def _own_state(own: SealedStore, sources: Iterable[SourceName]) -> StoreState:
    """Return the state of the encrypted artifacts in the backup folder."""
    try:
        found = own.contents()
    except RefnetError as error:
        return StoreState(own.name, frozenset(sources), trouble=error)
    unlisted = own.records.unaccepted(found.unlisted)
    return StoreState(own.name, frozenset(sources), found.copies, found.gaps, unlisted)


def _stale_pages(settings: Settings) -> tuple[str, ...]:
    if not settings.encryption_recipients:
        return ()

    with suppress(RefnetError):  # `refnet check` names what is wrong with the keys
        return tuple(stale_pages(settings))
    return ()


def _bare(settings: Settings, entries: Iterable[Entry], now: datetime) -> tuple[str, ...]:
    """Unencrypted files: `entries` of the backup folder, leftovers of a run, copies of the settings."""
    there = wiring.workplace(settings).entries()
    left = [one for one in there if now - one.published > GRACE]  # no run is at work on it
    copies = settings_copies.newest(settings.backup_dir, None)
    return tuple(one.name for one in (*entries, *left)) + ((str(copies[0]),) if copies else ())


def _states(settings: Settings, now: Callable[[], datetime]) -> Callable[[], tuple[StoreState, ...]]:
    """Reader of the state of each configured remote store."""
    if not settings.stores:
        return lambda: ()

    return StoreStates.of(settings, wiring.known(settings), partial(wiring.remote_store, settings), now).read
