"""`refnet postgres start|stop|status`, the embedded server, and `refnet database sizes`."""

from __future__ import annotations

import shlex
import shutil
from typing import Any

from refnet import servers
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, print_json, would
from refnet.cli.output import output, say
from refnet.cli.render import print_columns
from refnet.core import formatting
from refnet.postgres import binaries, embedded
from refnet.postgres.cluster import start_embedded
from refnet.servers import ActsOn
from refnet.settings import Settings
from refnet.sources.database.rows.live_catalog import sizes

postgres = Commands("Manage the embedded PostgreSQL.")


@postgres.command("start")
def start(*, plan: options.Plan = False) -> None:
    """Start the embedded server.

    Create it first if there is none.
    """
    settings = current_settings()
    folder = settings.home / "postgres"
    binaries.find(embedded.status(settings.home).major, settings.postgres_bin_dir, server=True)
    if would(f"start PostgreSQL in {folder}, and create it if there is none", plan=plan):
        return
    start_embedded(settings.home, settings.postgres_bin_dir)
    if not output.quiet:
        _show(settings)


@postgres.command("stop")
def stop(*, plan: options.Plan = False) -> None:
    """Stop the embedded server; its data stays."""
    home = current_settings().home
    if would(f"stop PostgreSQL in {home / 'postgres'}, if it runs", plan=plan):
        return
    stopped = embedded.stop(home)
    say("PostgreSQL is stopped; its data stays." if stopped else "PostgreSQL was not running.")


@postgres.command("status")
def status(as_json: options.Json = False) -> None:
    """Show the state of the embedded server.

    Print its folder and how to connect.
    """
    settings = current_settings()
    if as_json:
        print_json(_facts(settings))
    else:
        _show(settings)


def _facts(settings: Settings) -> dict[str, Any]:
    now = embedded.status(settings.home)
    programs = binaries.find(now.major, settings.postgres_bin_dir, server=True)
    psql = "psql" if shutil.which("psql") else str(programs.tool("psql"))
    connect = f"host={now.socket} user={embedded.SUPERUSER} dbname={embedded.DATABASE}"
    return {
        "running": now.running,
        "version": programs.version,
        "major": now.major,
        "pid": now.pid,
        "folder": str(now.folder),
        "socket": str(now.socket) if now.socket else None,
        "programs": str(programs.folder),
        "connect": shlex.join([psql, connect]) if now.running else None,
        "in_use": settings.database_url is None,
    }


def _show(settings: Settings) -> None:
    facts = _facts(settings)
    state = f"PostgreSQL {facts['version']}, " + (
        f"running (pid {facts['pid']})" if facts["running"] else "stopped"
    )
    if facts["major"] is None:
        state = f"not created yet; `refnet postgres start` creates it (PostgreSQL {facts['version']})"
    rows = {"state": state} | {name: facts[name] for name in ("folder", "socket", "connect") if facts[name]}
    if not facts["in_use"]:
        rows["note"] = "REFNET_DATABASE_URL is set: backups and restores use that server, not this one."
    print_columns([*rows.items()])


database = Commands("Inspect the database.")


@database.command("sizes")
def show_sizes(as_json: options.Json = False) -> None:
    """Print the size of the database and of each table."""
    settings = current_settings()
    target, acts_on = servers.existing_server(settings), ActsOn.of(settings)
    total, tables = sizes(target)
    if as_json:
        listed = [table.to_json() for table in tables]
        print_json({"database": target.name, "bytes": total, "tables": listed, **acts_on.to_json()})
        return
    print(acts_on)
    print(f"{target.name}  {formatting.size(total)}")
    rows = [
        (table.name, *map(formatting.size, (table.total, table.data, table.indexes)), f"{table.rows:,}")
        for table in tables
    ]
    if rows:
        render.print_columns(
            [("table", "size", "data", "indexes", "rows, about"), *rows], right=(1, 2, 3, 4), shorten=0
        )
