"""Settings made into live objects; the only place that assembles."""

from __future__ import annotations

from refnet.postgres import binaries, embedded
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.stores.local import LocalStore
from refnet.settings import Settings


def store(settings: Settings) -> LocalStore:
    """Where artifacts live."""
    return LocalStore(settings.backup_dir)


def server(settings: Settings) -> Target:
    """The database that is protected: that of REFNET_DATABASE_URL, else the embedded one, which is started."""
    if settings.database_url:
        return Target.from_url(settings.database_url)
    return embedded.start(settings.home, settings.postgres_bin_dir).target(embedded.DATABASE)


def binaries_for(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """PostgreSQL's programs for a server of `major`; see binaries.find."""
    return binaries.find(major, settings.postgres_bin_dir, server=server)
