"""PostgreSQL on this machine by the settings: its programs, and RefNet's own server. It needs no driver."""

from __future__ import annotations

from pathlib import Path

from refnet.compose import compose_file, guess
from refnet.core.errors import RefnetError
from refnet.postgres import binaries, embedded
from refnet.postgres.binaries import Binaries
from refnet.settings import Settings


def has_own_server(settings: Settings) -> bool:
    """Return whether RefNet's own server was created."""
    return embedded.status(settings.home).major is not None


def is_made(settings: Settings, source: str) -> bool:
    """Return whether `source` has a URL, or RefNet's own server was created."""
    return bool(settings.of(source).url) or has_own_server(settings)


def no_server(settings: Settings) -> RefnetError:
    """Return the error where no database is configured; it names the one that a Compose file runs."""
    return embedded.NoServerError(_by_compose(settings))


def _by_compose(settings: Settings) -> str:
    """Return the hint to use the PostgreSQL that the Compose file beside runs, or ""."""
    file = compose_file(settings.config_dir or Path.cwd())
    found = guess(file) if file else None
    if found is None:
        return ""
    hint = (
        f"{file} runs one as {found.service}: set REFNET_DATABASE_URL={found.url} (the password: ~/.pgpass)."
    )
    port = f' It publishes no port: add ports: ["127.0.0.1:5432:5432"] to {found.service}.'
    return hint if found.published else hint + port


def proof_binaries(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """Return the programs that a proof of an artifact of a server of `major` uses; see binaries.find."""
    if folder := settings.prove_bin_dir:
        return binaries.find(major, folder, server=server, named="prove.bin_dir")
    return binaries_for(settings, major, server=server)


def binaries_for(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """Return PostgreSQL's programs for a server of `major`; see binaries.find."""
    return binaries.find(major, settings.postgres_bin_dir, server=server)
