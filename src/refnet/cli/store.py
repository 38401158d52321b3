"""`refnet store accept`."""

from __future__ import annotations

from refnet import wiring
from refnet.cli.command import Commands
from refnet.cli.context import current_settings
from refnet.cli.output import say
from refnet.recovery.model import formatting

store = Commands("Manage the backup folder.")


@store.command()
def accept() -> None:
    """Accept the backup folder as the store. It is needed after a new disk or a deliberate move."""
    settings = current_settings()
    folder = wiring.store(settings)
    made = folder.accept()
    count = formatting.plural(len(folder.entries()), "artifact")
    say(f"{folder.root} is the store from now on ({count}, id {made}); {settings.home} remembers it.")
