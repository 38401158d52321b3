"""The tables that restores change, saved before: artifacts of these tables in REFNET_HOME/tables, from which `undo` restores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Entry
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.settings import Settings
from refnet.store.local import LocalStore

#: The key in the details of the manifest with the tables, `schema.table` each.
DETAIL = "replaced"


@dataclass(frozen=True)
class Saved:
    """The tables that one restore changed, in their state before it."""

    artifact: OpenArtifact
    tables: tuple[str, ...]
    at: datetime


def store(settings: Settings, source: SourceName) -> LocalStore:
    """The store of the artifacts of `source`."""
    return LocalStore(settings.home / "tables" / source, flat=True)


def newest(settings: Settings, source: SourceName) -> Saved | None:
    """Tables replaced by the last restore of tables; None: unknown."""
    place = store(settings, source)
    found = [one for one in place.entries(source) if _tables(one) and not one.damaged]
    last = max(found, key=lambda one: one.created, default=None)
    return Saved(place.artifact(last), _tables(last), last.created) if last else None


def previous_tables(settings: Settings, source: SourceName) -> Iterator[PreviousVersion]:
    """Tables replaced by restores, for lists and for prune."""
    place = store(settings, source)
    for one in place.entries(source):
        remove = partial(_remove, place, one)
        of = one.identity.database if one.identity else ""
        yield PreviousVersion(
            source, f"tables {', '.join(_tables(one))}", one.created, remove, of=of, size=one.manifest.size
        )


def _remove(place: LocalStore, entry: Entry) -> None:
    with place.lock(entry.source):
        place.delete(entry)


def _tables(entry: Entry) -> tuple[str, ...]:
    named = entry.manifest.details.get(DETAIL)
    is_list = isinstance(named, list) and all(isinstance(one, str) for one in named)
    return tuple(named) if is_list and isinstance(named, list) else ()
