"""The keys of refnet.toml, also in the tables of sources and stores; their variables, and which hold secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from refnet.settings import sources
from refnet.settings.sources import SourceSettings
from refnet.settings.stores import STORES, StoreSettings
from refnet.settings.table import keys

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


@cache
def tables() -> dict[str, list[str]]:
    """Keys of each table of refnet.toml, without the table's name."""
    found: dict[str, list[str]] = {}
    for each in keys():
        table, dot, name = each.rpartition(".")
        if dot:
            found.setdefault(table, []).append(name)
    return found


def setting(key: str) -> Field[Any] | None:
    """Field of `key`, also in named tables; None for an unknown key."""
    return keys().get(key) or field_of(key)


def all_keys(named: Iterable[SourceSettings | StoreSettings]) -> dict[str, Field[Any]]:
    """All keys of refnet.toml, those of the `named` sources and stores last."""
    found = {
        f"{one.table}.{one.name}.{key}": found for one in named for key, found in keys_of(one.table).items()
    }
    return keys() | found


def variable(key: str) -> str:
    """Name of the environment variable of a key."""
    return "REFNET_" + key.replace(".", "_").replace("-", "_").upper()


def is_secret(key: str, value: object) -> bool:
    """Whether `value` of `key` is a secret; a server's URL only with a password."""
    known = setting(key)
    if not known or not known.metadata["secret"] or not value:
        return False
    if key not in {"database_url", "database.restore_url", "broker_url"} and not field_of(key):
        return True
    try:
        parts = urlsplit(str(value))
        unescaped = str(value).count("@") > parts.netloc.count(
            "@"
        )  # a password with /, ? or # ends the netloc
        return bool(parts.password) or "password" in parts.query or unescaped
    except ValueError:
        return True
