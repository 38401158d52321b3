"""The servers that the settings name: the database, as a target of the driver, and the broker. See `local_postgres`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.catalog.identity import Identity
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.local_postgres import is_made, no_server
from refnet.postgres import embedded
from refnet.postgres.cluster import start_embedded
from refnet.postgres.connect_error import restore_setting
from refnet.postgres.session import Target
from refnet.settings import Settings, variable
from refnet.settings.sources import SHORT


def server(settings: Settings, source: str = SourceName.DATABASE) -> Target:
    """Return the database of `source`: that of its URL, else the embedded one, made and started if needed.

    RefnetError (USAGE) if the settings do not name that source.
    """
    if url := settings.of(source).url:
        return Target.from_url(url, _url_key(settings, source))
    return start_embedded(settings.home, settings.postgres_bin_dir).target(embedded.DATABASE)


def _url_key(settings: Settings, source: str) -> str:
    """Return the setting with the URL of the database of `source`, or its variable."""
    key = settings.of(source).key_of("url")
    in_file = settings.file and settings.origins.get(key) == str(settings.file)
    return key if in_file or source not in SHORT else variable(key)


def database_name(settings: Settings, source: str) -> str:
    """Return the name of the database of `source`."""
    url = settings.of(source).url
    if url is None:
        return embedded.DATABASE
    return Target.from_url(url).name


def named_by(settings: Settings, source: SourceName) -> Identity | None:
    """Return the database of `source` by its name alone, without a connection; None: no URL, or a wrong one."""
    url = settings.of(source).url
    if not url:
        return None
    try:
        return Identity(Target.from_url(url).name)
    except RefnetError:
        return None


def existing_server(settings: Settings, source: str = SourceName.DATABASE) -> Target:
    """Return the same as `server`, but raise NoServerError rather than make an embedded server."""
    if not is_made(settings, source):
        raise no_server(settings)
    return server(settings, source)


def restoring(settings: Settings, source: str, *, existing: bool = False) -> Target:
    """Return the database of `source` as the role that restores logs in: by restore_url if that is set, else `server`.

    existing: as `existing_server`.
    """
    url = settings.of(source).restore_url
    if not url:
        return existing_server(settings, source) if existing else server(settings, source)
    return Target.from_url(url, restore_setting(_url_key(settings, source)))


def broker(settings: Settings) -> str:
    """Return the URL of the broker: that of REFNET_BROKER_URL, else the embedded one, which is started."""
    from refnet.broker.server import start  # a backup needs no broker, nor the packages of one

    return settings.broker_url or start(settings.home)


@dataclass(frozen=True)
class ActsOn:
    """The database that a command acts on, its server, and the settings file that names it."""

    database: str
    #: Its address, or the folder of RefNet's own server.
    server: str
    #: Both, for a display.
    shown: str
    #: The settings file that was read, if any.
    file: Path | None

    @classmethod
    def of(cls, settings: Settings, source: str = SourceName.DATABASE) -> ActsOn:
        """The configured database `source`, without connecting to it."""
        if url := settings.of(source).url:
            target = Target.from_url(url)
            return cls(target.name, target.address, target.display, settings.file)
        name, folder = embedded.DATABASE, str(settings.home / "postgres")
        return cls(name, folder, f"{name} on RefNet's own server ({folder})", settings.file)

    def __str__(self) -> str:
        return f"on: {self.shown} (settings file: {self.file or 'none'})"

    def to_json(self) -> dict[str, Any]:
        file = str(self.file) if self.file else None
        return {"acts_on": {"database": self.database, "server": self.server, "settings": file}}
