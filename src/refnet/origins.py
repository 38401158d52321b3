"""Settings made into what a restore may come from, and the memory of what it came from."""

from __future__ import annotations

from refnet import servers
from refnet.errors import RefnetError
from refnet.recovery.model.origin import Permission
from refnet.recovery.stores.lineage import Lineage
from refnet.recovery.verbs.restore_database import Restored
from refnet.settings import Settings


def permission(settings: Settings, from_database: str | None) -> Permission:
    """From which databases a restore may come: the one that is named, and those that the target goes on with."""
    here = servers.identity(settings)
    return Permission(from_database, here.before if here else frozenset())


def remember(settings: Settings, done: Restored) -> str:
    """Remember where the database was restored from; why that was not possible, or ""."""
    try:
        Lineage.at(settings.home).add(done.place.identity, done.origin)
    except RefnetError as error:
        return f"where it was restored from could not be remembered: {error.message}"
    return ""
