"""`refnet settings`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from refnet.settings import Settings, keys, variable


def show(settings: Settings) -> None:
    """Print a table: key, value, origin, what it says."""
    table = Table("setting", "value", "from", "variable", box=None, pad_edge=False)
    for key, field in keys().items():
        value = getattr(settings, field.name)
        if value and field.metadata["secret"]:
            value = "(hidden)"
        shown = "not set" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
        table.add_row(key, shown, settings.origins.get(key, "the default"), variable(key))
    Console().print(table)
