"""`refnet settings`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from refnet.settings import Settings, keys, variable

#: Characters to a line where it is no terminal that would break it.
_WIDE = 1000


def show(settings: Settings) -> None:
    """Print a table: key, value, origin, variable; whole names and values where nobody looks at a terminal."""
    table = Table("setting", "value", "from", "variable", box=None, pad_edge=False)
    for key, field in keys().items():
        value = getattr(settings, field.name)
        if value and field.metadata["secret"]:
            value = "(hidden)"
        shown = "not set" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
        table.add_row(key, shown, settings.origins.get(key, "the default"), variable(key))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    print(f"settings file: {settings.file or 'none'}")
