"""Named tables of a settings file: those of sources, and `[stores.NAME]`."""

from __future__ import annotations

from dataclasses import Field, fields
from functools import cache
from typing import Any

from refnet.settings import sources
from refnet.settings.sources import SourceSettings
from refnet.settings.stores import STORES, StoreSettings

#: The named tables in refnet.toml.
TABLES = (*sources.TABLES, STORES)


@cache
def keys_of(table: str) -> dict[str, Field[Any]]:
    """Return the keys of a source or a store of `table`, in order."""
    return {
        f.metadata["name"] or f.name: f
        for f in fields(StoreSettings if table == STORES else SourceSettings)
        if f.metadata and table in (f.metadata["table"].split() or TABLES)
    }


def field_of(name: str) -> Field[Any] | None:
    """The field of the dotted key `name`, such as databases.shop.url; None outside of named tables."""
    table, _, rest = name.partition(".")
    owner, _, last = rest.partition(".")
    return keys_of(table).get(last) if table in TABLES and owner else None
