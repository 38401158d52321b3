"""Declaration of one setting."""

from collections.abc import Callable
from dataclasses import field
from typing import Any


def key(
    convert: Callable[[Any], Any],
    *,
    default: Any = None,
    name: str | None = None,
    secret: bool = False,
    table: str = "",
) -> Any:
    """Declare a setting.

    Args:
        convert: see `converters`.
        name: its key in refnet.toml; None: that of the field.
        secret: never shown; REFNET_…_FILE may name a file with it.
        table: the tables of sources that have it; "": all.
    """
    return field(
        default=default, metadata={"convert": convert, "name": name, "secret": secret, "table": table}
    )
