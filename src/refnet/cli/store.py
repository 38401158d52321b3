"""`refnet store accept`."""

from __future__ import annotations

import typer

from refnet import wiring
from refnet.cli.context import current_settings
from refnet.recovery.model import formatting

store = typer.Typer(help="Manage the backup folder.", no_args_is_help=True)


@store.command()
def accept() -> None:
    """Accept the backup folder, as it is now, as the store: after a new disk or a deliberate move."""
    settings = current_settings()
    folder = wiring.store(settings)
    made = folder.accept()
    count = formatting.plural(len(folder.entries()), "artifact")
    print(f"{folder.root} is the store from now on ({count}, id {made}); {settings.home} remembers it.")
