"""`refnet store`: which folder is the store."""

from __future__ import annotations

import typer

from refnet.cli.context import current_settings

store = typer.Typer(help="The backup folder.", no_args_is_help=True, rich_markup_mode=None)


@store.callback()
def _root() -> None:
    """Hold the commands together, however few there are."""


@store.command()
def accept() -> None:
    """Take the backup folder, as it is now, for the store that is meant: after a new disk, or a move on purpose."""
    from refnet import wiring
    from refnet.cli import formatting

    settings = current_settings()
    folder = wiring.store(settings)
    made = folder.accept()
    count = formatting.plural(len(folder.entries()), "artifact")
    print(f"{folder.root} is the store from now on ({count}, id {made}); {settings.home} remembers it.")
