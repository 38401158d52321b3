"""The database that a command acts on, its server, and the settings file that names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.catalog.source_name import SourceName
from refnet.settings import Settings


@dataclass(frozen=True)
class ActsOn:
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
        from refnet.postgres import embedded  # the driver takes long to load, and files do without it
        from refnet.postgres.session import Target

        if url := settings.of(source).url:
            target = Target.from_url(url)
            return cls(target.name, target.address, target.display, settings.file)
        name, folder = embedded.DATABASE, str(settings.home / "postgres")
        return cls(name, folder, f"{name} on RefNet's own server ({folder})", settings.file)

    @classmethod
    def of_database(cls, settings: Settings, source: SourceName) -> ActsOn | None:
        """Like `of`; None if `source` is not a database."""
        return cls.of(settings, source) if source.kind.row.by_name else None

    def __str__(self) -> str:
        return f"on: {self.shown} (settings file: {self.file or 'none'})"

    def to_json(self) -> dict[str, Any]:
        file = str(self.file) if self.file else None
        return {"acts_on": {"database": self.database, "server": self.server, "settings": file}}
