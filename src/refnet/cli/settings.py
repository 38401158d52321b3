"""`refnet settings`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from refnet.cli.context import current_settings
from refnet.settings import Settings, keys, variable

#: Columns of output that goes to no terminal, so that no value is wrapped.
_WIDE = 1000


def settings() -> None:
    """Print every setting in force and where it comes from; secrets are hidden."""
    show(current_settings(own=False))


def show(found: Settings) -> None:
    """Print a table: key, value, origin, variable."""
    table = Table("setting", "value", "from", "variable", box=None, pad_edge=False)
    for key, field in keys().items():
        value = getattr(found, field.name)
        if value and field.metadata["secret"]:
            value = "(hidden)"
        shown = "not set" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
        table.add_row(key, shown, found.origins.get(key, "the default"), variable(key))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    print(f"settings file: {found.file or 'none'}")
