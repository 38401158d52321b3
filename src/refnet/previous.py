"""The previous versions that restores left, and the copies that killed ones left: listed, and counted from the records."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from refnet import servers, wiring
from refnet.errors import RefnetError
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.previous import HalfMade, MarkState, Record
from refnet.recovery.model.retention import Listing, PreviousVersion
from refnet.recovery.model.source_name import Kind, SourceName
from refnet.replaced_tables import previous_tables
from refnet.settings import Settings


def previous_versions(settings: Settings) -> tuple[Listing, ...]:
    """Return what lists the previous versions that restores left, for prune to remove when they are due."""
    listers = (_previous_databases, _previous_folders, previous_tables)
    return tuple(partial(one, settings) for one in listers)


def _previous_databases(settings: Settings, source: SourceName) -> list[PreviousVersion]:
    """List the previous databases. An embedded server is asked if it runs, and never started for this."""
    from refnet.postgres import embedded

    if source.kind is not Kind.DATABASE:
        return []
    if not settings.of(source).url and embedded.status(settings.home).pid is None:
        return []
    from refnet.recovery.sources.database.restore.previous_databases import previous_databases

    records = wiring.previous(settings, source)
    found = previous_databases(servers.restoring(settings, source), records.read().records, records.forget)
    return [replace(one, source=source) for one in found]


def _previous_folders(settings: Settings, source: SourceName) -> tuple[PreviousVersion, ...]:
    if source.kind is not Kind.FOLDER:
        return ()
    from refnet.recovery.sources.files import previous_folders

    no_live = source == SourceName.CONFIG and not settings.config_dir
    return previous_folders.previous_folders(
        settings.home / "swaps", source, None if no_live else wiring.target(settings, source)
    )


def all_recorded(settings: Settings) -> dict[SourceName, tuple[datetime, ...] | None]:
    """Return since when the recorded previous versions of each source are kept; None: that cannot be read."""
    found: dict[SourceName, tuple[datetime, ...] | None] = dict.fromkeys(wiring.known(settings))
    for name in wiring.known(settings):
        with suppress(RefnetError):  # the monitor warns that they cannot be read
            found[name] = recorded_previous(settings, name)
    return found


def recorded_previous(settings: Settings, name: SourceName) -> tuple[datetime, ...]:
    """Return since when the recorded previous versions of `name` are kept; no server is asked.

    Where two sources have a database of one name, the newest artifact of each tells their servers apart.
    """
    if name.kind is not Kind.DATABASE:
        from refnet.recovery.sources.files import previous_folders

        return tuple(work.journal.at for work in previous_folders.finished(settings.home / "swaps", name))
    return tuple(one.mark.at for one in _records(settings, name) if one.mark.why is not MarkState.COPY)


def half_made(settings: Settings) -> tuple[HalfMade, ...]:
    """Return the recorded copies that restores load, or that killed ones left; what cannot be read is left out."""
    from refnet.recovery.sources.files import previous_folders

    found = list[HalfMade]()
    for name in wiring.known(settings):
        with suppress(RefnetError):  # `all_recorded` reports it
            if name.kind is not Kind.DATABASE:
                works = previous_folders.half_made(settings.home / "swaps", name)
                found += [HalfMade(name, str(one.path), one.journal.at) for one in works]
                continue
            copies = (one for one in _records(settings, name) if one.mark.why is MarkState.COPY)
            found += [HalfMade(name, one.name, one.mark.at) for one in copies]
    return tuple(found)


def _records(settings: Settings, name: SourceName) -> list[Record]:
    """Return the records of the database `name`; see `recorded_previous`."""

    own = servers.database_name(settings, name)
    records = [one for one in wiring.previous(settings, name).read().records if one.mark.of == own]
    others = (one for one in wiring.known(settings) if one.kind is Kind.DATABASE and one != name)
    newest = None
    if records and any(servers.database_name(settings, one) == own for one in others):
        newest = Catalog.of(wiring.catalog(settings).entries(name)).newest_complete(name)
    system = newest.identity.system if newest and newest.identity else None
    return [one for one in records if not system or one.system in {None, system}]
