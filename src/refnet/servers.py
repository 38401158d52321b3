"""The servers that the settings name: the database, the broker, and PostgreSQL's programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refnet.catalog.identity import Identity
from refnet.catalog.source_name import SourceName
from refnet.compose import compose_file
from refnet.core.errors import RefnetError
from refnet.settings import Settings, variable
from refnet.settings.sources import SHORT

if TYPE_CHECKING:
    from refnet.postgres.binaries import Binaries
    from refnet.postgres.session import Target


def server(settings: Settings, source: str = SourceName.DATABASE) -> Target:
    """Return the database of `source`: that of its URL, else the embedded one, made and started if needed.

    RefnetError (USAGE) if the settings do not name that source.
    """
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if url := settings.of(source).url:
        return Target.from_url(url, _url_key(settings, source))
    return embedded.start(settings.home, settings.postgres_bin_dir).target(embedded.DATABASE)


def _url_key(settings: Settings, source: str) -> str:
    """Return the setting with the URL of the database of `source`, or its variable."""
    key = settings.of(source).key_of("url")
    in_file = settings.file and settings.origins.get(key) == str(settings.file)
    return key if in_file or source not in SHORT else variable(key)


def database_name(settings: Settings, source: str) -> str:
    """Return the name of the database of `source`."""
    from refnet.postgres import embedded

    url = settings.of(source).url
    if url is None:
        return embedded.DATABASE
    from refnet.postgres.session import Target

    return Target.from_url(url).name


def named_by(settings: Settings, source: SourceName) -> Identity | None:
    """Return the database of `source` by its name alone, without a connection; None: no URL, or a wrong one."""
    url = settings.of(source).url
    if not url:
        return None
    from refnet.postgres.session import Target

    try:
        return Identity(Target.from_url(url).name)
    except RefnetError:
        return None


def existing_server(settings: Settings, source: str = SourceName.DATABASE) -> Target:
    """Return the same as `server`, but raise NoServerError rather than make an embedded server."""
    if not is_made(settings, source):
        raise no_server(settings)
    return server(settings, source)


def no_server(settings: Settings) -> RefnetError:
    """Return the error where no database is configured; it names the one that a Compose file runs."""
    from refnet.postgres import embedded

    return embedded.NoServerError(_by_compose(settings))


def is_made(settings: Settings, source: str) -> bool:
    """Return whether `source` has a URL, or RefNet's own server was created."""
    from refnet.postgres import embedded

    return bool(settings.of(source).url) or embedded.status(settings.home).major is not None


def restoring(settings: Settings, source: str, *, existing: bool = False) -> Target:
    """Return the database of `source` as the role that restores logs in: by restore_url if that is set, else `server`.

    existing: as `existing_server`.
    """
    url = settings.of(source).restore_url
    if not url:
        return existing_server(settings, source) if existing else server(settings, source)
    from refnet.postgres.connecting import restore_setting
    from refnet.postgres.session import Target

    return Target.from_url(url, restore_setting(_url_key(settings, source)))


def _by_compose(settings: Settings) -> str:
    """Return the hint to use the PostgreSQL that the Compose file beside runs, or ""."""
    from refnet.compose_guess import guess

    file = compose_file(settings.config_dir or Path.cwd())
    found = guess(file) if file else None
    if found is None:
        return ""
    hint = (
        f"{file} runs one as {found.service}: set REFNET_DATABASE_URL={found.url} (the password: ~/.pgpass)."
    )
    port = f' It publishes no port: add ports: ["127.0.0.1:5432:5432"] to {found.service}.'
    return hint if found.published else hint + port


def broker(settings: Settings) -> str:
    """Return the URL of the broker: that of REFNET_BROKER_URL, else the embedded one, which is started."""
    from refnet.broker import embedded as own  # a backup needs no broker, nor the packages of one

    return settings.broker_url or own.start(settings.home)


def proof_binaries(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """Return the programs that a proof of an artifact of a server of `major` uses; see binaries.find."""
    from refnet.postgres import binaries

    if folder := settings.prove_bin_dir:
        return binaries.find(major, folder, server=server, named="prove.bin_dir")
    return binaries_for(settings, major, server=server)


def binaries_for(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """Return PostgreSQL's programs for a server of `major`; see binaries.find."""
    from refnet.postgres import binaries

    return binaries.find(major, settings.postgres_bin_dir, server=server)
