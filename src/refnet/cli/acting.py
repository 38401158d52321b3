"""What a command acts on, for its output: the database, its server, and the settings file that says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet.compose import compose_file
from refnet.errors import RefnetError

if TYPE_CHECKING:
    from refnet.postgres.session import Target
    from refnet.settings import Settings


def server(settings: Settings) -> Target:
    """The database that is protected, on a server that is there; RefnetError with what to set where there is none."""
    from refnet import servers

    try:
        return servers.existing_server(settings)
    except RefnetError as error:
        raise explained(error, settings) from None


def explained(error: RefnetError, settings: Settings) -> RefnetError:
    """`error`; where it says that there is no server, with the URL that the Compose file beside suggests."""
    from refnet.cli.compose_guess import guess
    from refnet.postgres.embedded import NoServerError

    file = compose_file(settings.config_dir or Path.cwd())
    if not isinstance(error, NoServerError) or file is None:
        return error
    found = guess(file)
    if found is None:
        return error
    hint = (
        f"{file} runs one as {found.service}: set REFNET_DATABASE_URL={found.url} (the password: ~/.pgpass)."
    )
    port = f' It publishes no port: add ports: ["127.0.0.1:5432:5432"] to {found.service}.'
    return NoServerError(hint if found.published else hint + port)


def database(settings: Settings) -> str:
    """The database that is protected, and its server; connects to nothing."""
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if settings.database_url:
        return Target.from_url(settings.database_url).display
    return f"{embedded.DATABASE} on RefNet's own server ({settings.home / 'postgres'})"


def settings_file(settings: Settings) -> str:
    """The settings file that was read."""
    return str(settings.file) if settings.file else "no settings file"


def line(settings: Settings) -> str:
    """What a command acts on, in one line."""
    return f"on: {database(settings)}, by {settings_file(settings)}"


def values(settings: Settings) -> dict[str, Any]:
    """What a command acts on, for --json."""
    from refnet.postgres import embedded
    from refnet.postgres.session import Target

    if settings.database_url:
        target = Target.from_url(settings.database_url)
        where = {"database": target.name, "server": target.place}
    else:
        where = {"database": embedded.DATABASE, "server": str(settings.home / "postgres")}
    return {"acts_on": where | {"settings": str(settings.file) if settings.file else None}}
