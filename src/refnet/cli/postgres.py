"""`refnet postgres start|stop|status`: the embedded server."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from refnet.postgres.embedded import Status
    from refnet.settings import Settings

app = typer.Typer(help="The embedded PostgreSQL, for those who have no server.", no_args_is_help=True)


@app.command("start")
def start() -> None:
    """Start the embedded server; make it first where there is none."""
    from refnet.postgres import embedded

    settings = _settings()
    embedded.start(settings.home, settings.postgres_bin_dir)
    _show(embedded.status(settings.home), settings)


@app.command("stop")
def stop() -> None:
    """Stop the embedded server; its data stays."""
    from refnet.postgres import embedded

    stopped = embedded.stop(_settings().home)
    print("PostgreSQL is stopped; its data stays." if stopped else "PostgreSQL was not running.")


@app.command("status")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show whether the embedded server runs, where its data lies, and how to connect."""
    from refnet.postgres import embedded

    settings = _settings()
    now = embedded.status(settings.home)
    if as_json:
        print(json.dumps(_facts(now, settings), indent=2))
    else:
        _show(now, settings)


def _settings() -> Settings:
    from refnet.cli.context import current_settings

    return current_settings()


def _facts(now: Status, settings: Settings) -> dict[str, Any]:
    from refnet.postgres import binaries, embedded

    programs = binaries.find(now.major, settings.postgres_bin_dir, server=True)
    connect = f"host={now.socket} user={embedded.SUPERUSER} dbname={embedded.DATABASE}"
    return {
        "running": now.running,
        "version": programs.version,
        "major": now.major,
        "pid": now.pid,
        "folder": str(now.place),
        "socket": str(now.socket) if now.socket else None,
        "programs": str(programs.folder),
        "connect": shlex.join([_shortest(programs.tool("psql")), connect]) if now.running else None,
        "in_use": settings.database_url is None,
    }


def _shortest(psql: Path) -> str:
    """`psql` where the shell would find one, else its path."""
    return "psql" if shutil.which("psql") else str(psql)


def _show(now: Status, settings: Settings) -> None:
    facts = _facts(now, settings)
    if now.major is None:
        state = f"not made yet; `refnet postgres start` makes it (PostgreSQL {facts['version']})"
    else:
        state = f"PostgreSQL {facts['version']}, " + (
            f"running (pid {now.pid})" if now.running else "stopped"
        )
    rows = {"state": state, "folder": facts["folder"], "socket": facts["socket"], "connect": facts["connect"]}
    for name, value in rows.items():
        if value:
            print(f"{name:<9}{value}")
    if not facts["in_use"]:
        print("note     REFNET_DATABASE_URL is set: backups and restores use that server, not this one.")
