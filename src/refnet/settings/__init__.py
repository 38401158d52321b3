"""The settings, from refnet.toml and REFNET_* variables, with the origin of each value.

`table` declares every setting; `reading` finds the file, reads it and combines all sources.
"""

from refnet.settings.problem import Problem
from refnet.settings.reading import (
    BY_COMPOSE_FILE,
    CONFIG,
    FILE_NAME,
    LARGEST,
    LOGS,
    Examined,
    Given,
    examine,
    load,
    parse,
    problems,
    read_file,
    secret_file_variable,
)
from refnet.settings.table import Retention, Settings, is_secret, keys, user_path, variable

__all__ = [
    "BY_COMPOSE_FILE",
    "CONFIG",
    "FILE_NAME",
    "LARGEST",
    "LOGS",
    "Examined",
    "Given",
    "Problem",
    "Retention",
    "Settings",
    "examine",
    "is_secret",
    "keys",
    "load",
    "parse",
    "problems",
    "read_file",
    "secret_file_variable",
    "user_path",
    "variable",
]
