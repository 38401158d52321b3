"""refnet.toml and REFNET_* made into one frozen Settings; every value knows where it comes from.

`table` declares every setting; `reading` finds the file, reads it and puts all sources together.
"""

from refnet.settings.reading import FILE_NAME, load
from refnet.settings.table import Retention, Settings, keys, user_path, variable

__all__ = ["FILE_NAME", "Retention", "Settings", "keys", "load", "user_path", "variable"]
