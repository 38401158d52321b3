"""`refnet store accept`."""

from __future__ import annotations

from refnet import wiring
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.context import current_settings, would
from refnet.cli.output import say
from refnet.recovery.model import formatting

store = Commands("Manage the backup folder.")


@store.command()
def accept(*, plan: options.Plan = False) -> None:
    """Accept the backup folder as the store.

    This is needed after a new disk or a deliberate move.
    """
    settings = current_settings()
    folder = wiring.store(settings)
    count = formatting.plural(len(folder.entries()), "artifact")
    if would(f"accept {folder.root} as the store from now on ({count})", plan=plan):
        return
    made = folder.accept()
    say(f"{folder.root} is the store from now on ({count}, id {made}); {settings.home} remembers it.")
