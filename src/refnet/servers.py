"""The servers that the settings mean: the database's, the broker's, and the programs for one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from refnet.recovery.model.identity import Identity
from refnet.recovery.stores.lineage import Lineage
from refnet.settings import Settings

if TYPE_CHECKING:
    from refnet.postgres.binaries import Binaries
    from refnet.postgres.session import Target


def server(settings: Settings) -> Target:
    """The protected database: that of REFNET_DATABASE_URL, else the embedded one, made and started if need be."""
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if settings.database_url:
        return Target.from_url(settings.database_url)
    return embedded.start(settings.home, settings.postgres_bin_dir).target(embedded.DATABASE)


def identity(settings: Settings) -> Identity | None:
    """The database that the settings mean, with its server where that answers; None where they name none.

    An embedded server is asked where it runs, and never started for this.
    """
    from refnet.postgres import embedded
    from refnet.recovery.sources.database.database_identity import identity_of

    if not settings.database_url:
        there = embedded.status(settings.home)
        if there.pid is None:
            return None if there.major is None else Identity(embedded.DATABASE)
    found = identity_of(server(settings))
    return replace(found, before=frozenset(Lineage.at(settings.home).before(found)))


def existing_server(settings: Settings) -> Target:
    """As `server`, for what reads: NoServerError rather than making an embedded server."""
    from refnet.postgres import embedded

    if not settings.database_url and embedded.status(settings.home).major is None:
        raise embedded.NoServerError
    return server(settings)


def broker(settings: Settings) -> str:
    """The URL of the broker: that of REFNET_BROKER_URL, else the embedded one, which is started."""
    from refnet.broker import embedded as own  # a backup needs no broker, nor the packages of one

    return settings.broker_url or own.start(settings.home)


def binaries_for(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """PostgreSQL's programs for a server of `major`; see binaries.find."""
    from refnet.postgres import binaries

    return binaries.find(major, settings.postgres_bin_dir, server=server)
