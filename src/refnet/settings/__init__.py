"""The settings, from refnet.toml and REFNET_* variables, with the origin of each value.

`table` declares every setting and its converter (`converters`, `urls`, `times`, `encryption`), `sources` and `stores`
those of named tables, and `known_keys` names them all; `document` reads a file, `reading` combines all sources, and
`problem` words what is wrong.
"""

from refnet.settings.converters import user_path
from refnet.settings.document import LARGEST, Given, parse, read_file
from refnet.settings.known_keys import all_keys, is_secret, variable
from refnet.settings.problem import Problem
from refnet.settings.reading import (
    CONFIG,
    FILE_NAME,
    IDENTITY_FILE,
    LOGS,
    PROGRESS,
    STARTED_BY,
    SYSTEM_FILE,
    Examined,
    examine,
    load,
    secret_file_variable,
)
from refnet.settings.sources import SourceSettings
from refnet.settings.stores import StoreSettings
from refnet.settings.table import BY_COMPOSE_FILE, Settings, keys
from refnet.settings.urls import StoreKind, StoreUrl

__all__ = [
    "BY_COMPOSE_FILE",
    "CONFIG",
    "FILE_NAME",
    "IDENTITY_FILE",
    "LARGEST",
    "LOGS",
    "PROGRESS",
    "STARTED_BY",
    "SYSTEM_FILE",
    "Examined",
    "Given",
    "Problem",
    "Settings",
    "SourceSettings",
    "StoreKind",
    "StoreSettings",
    "StoreUrl",
    "all_keys",
    "examine",
    "is_secret",
    "keys",
    "load",
    "parse",
    "read_file",
    "secret_file_variable",
    "user_path",
    "variable",
]
