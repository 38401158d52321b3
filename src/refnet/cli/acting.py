"""The database that a command acts on, its server, and the settings file that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refnet.settings import Settings


def database(settings: Settings) -> str:
    """Return the protected database and its server; connect to nothing."""
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if settings.database_url:
        return Target.from_url(settings.database_url).display
    return f"{embedded.DATABASE} on RefNet's own server ({settings.home / 'postgres'})"


def settings_file(settings: Settings) -> str:
    """Return the settings file that was read, or "none"."""
    return str(settings.file) if settings.file else "none"


def line(settings: Settings) -> str:
    """Return the database and the settings file, in one line."""
    return f"on: {database(settings)} (settings file: {settings_file(settings)})"


def values(settings: Settings) -> dict[str, Any]:
    """Return the database and the settings file, for --json."""
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if settings.database_url:
        target = Target.from_url(settings.database_url)
        where = {"database": target.name, "server": target.address}
    else:
        where = {"database": embedded.DATABASE, "server": str(settings.home / "postgres")}
    return {"acts_on": where | {"settings": str(settings.file) if settings.file else None}}
