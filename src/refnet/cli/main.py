"""The command `refnet`: its commands by name, imported only when they run, and the one place of exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from refnet import settings as settings_module
from refnet.cli import network, postgres
from refnet.errors import Exit, RefnetError

app = typer.Typer(
    name="refnet",
    help="A citation network in PostgreSQL, and backups that prove themselves by being restored.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(network.network, name="network")
app.add_typer(network.imports, name="import")
app.add_typer(postgres.app, name="postgres")


def run() -> None:
    """Run the command line; end with a documented exit code, never with a traceback for what a user can cause."""
    try:
        app(standalone_mode=True)
    except RefnetError as error:
        print(f"refnet: {error.message}\n        {error.hint}", file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        print("refnet: interrupted\n        Nothing half-done is live; run it again.", file=sys.stderr)
        sys.exit(Exit.FAILED)


def current_settings() -> settings_module.Settings:
    """The settings of this process."""
    return settings_module.load(
        os.environ, Path.cwd(), root=os.geteuid() == 0, cores=len(os.sched_getaffinity(0))
    )


@app.callback()
def _root() -> None:
    """Hold the commands together, however few there are."""


@app.command("settings")
def show_settings() -> None:
    """Print every setting in force and where it comes from; secrets are hidden."""
    from refnet.cli.settings import show

    show(current_settings())
