"""refnet.toml and REFNET_* made into one frozen Settings; every value knows where it comes from.

`table` declares every setting; `reading` finds the file, reads it and puts all sources together.
"""

from refnet.settings.reading import (
    BY_COMPOSE_FILE,
    CONFIG,
    FILE_NAME,
    LARGEST,
    LOGS,
    Given,
    load,
    parse,
    read_file,
    secret_file_variable,
)
from refnet.settings.table import Retention, Settings, keys, user_path, variable

__all__ = [
    "BY_COMPOSE_FILE",
    "CONFIG",
    "FILE_NAME",
    "LARGEST",
    "LOGS",
    "Given",
    "Retention",
    "Settings",
    "keys",
    "load",
    "parse",
    "read_file",
    "secret_file_variable",
    "user_path",
    "variable",
]
