"""The protected sources: an object per configured source, of the class of its kind."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from importlib import import_module
from typing import cast

from refnet import wiring
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.store import HalfMade
from refnet.core.errors import RefnetError
from refnet.settings import Settings
from refnet.sources.base import Source

__all__ = ["Source", "half_made", "kind_of", "recorded", "source_of"]


#: The class of each kind, in the module `source` of its folder.
_CLASSES = {
    Kind.GLOBALS: ("roles", "Roles"),
    Kind.DATABASE: ("database", "Database"),
    Kind.CLUSTER: ("cluster", "ClusterBases"),
    Kind.FOLDER: ("folder", "Folder"),
    Kind.SQLITE: ("sqlite", "Sqlite"),
}


def kind_of(name: SourceName) -> type[Source]:
    """The class of the source `name`, for what holds without settings.

    It is imported now: PostgreSQL's driver takes longer to load than a vault to be read.
    """
    folder, its_name = _CLASSES[name.kind]
    return cast("type[Source]", getattr(import_module(f"refnet.sources.{folder}.source"), its_name))


def source_of(settings: Settings, name: SourceName) -> Source:
    """The source `name`. No server is contacted; a source missing from the settings raises an error only when used."""
    return kind_of(name)(settings, name)


def recorded(settings: Settings) -> dict[SourceName, tuple[datetime, ...] | None]:
    """Times of the recorded previous versions, by source; None: unreadable."""
    found: dict[SourceName, tuple[datetime, ...] | None] = dict.fromkeys(wiring.known(settings))
    for name in found:
        with suppress(RefnetError):  # the monitor warns that they cannot be read
            found[name] = source_of(settings, name).recorded()
    return found


def half_made(settings: Settings) -> tuple[HalfMade, ...]:
    """Recorded copies of all sources, being loaded or left by killed restores."""
    found = list[HalfMade]()
    for name in wiring.known(settings):
        with suppress(RefnetError):  # `recorded` says which cannot be read
            found += source_of(settings, name).half_made()
    return tuple(found)
