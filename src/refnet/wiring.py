"""Settings made into live objects; the only place that assembles."""

from __future__ import annotations

from refnet.recovery.stores.local import LocalStore
from refnet.settings import Settings


def store(settings: Settings) -> LocalStore:
    """Where artifacts live."""
    return LocalStore(settings.backup_dir)
