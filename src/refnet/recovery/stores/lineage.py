"""Which databases go on with one of another server: REFNET_HOME remembers each that was restored from there.

After a disk died the database is on a new cluster, and its older artifacts are of the old one. Without this memory they
would look like those of a stranger.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.files import explained, make_folder, read_regular, replace_file
from refnet.recovery.model.identity import Identity

_FORMAT = 1
_LARGEST = 16 << 10  # bytes
#: How many servers a database remembers, the newest last.
_MOST = 20


@dataclass(frozen=True)
class Lineage:
    """The memory in `folder`, a file for each database."""

    folder: Path

    @classmethod
    def at(cls, home: Path) -> Lineage:
        """That of a REFNET_HOME."""
        return cls(home / "lineage")

    def before(self, identity: Identity) -> tuple[str, ...]:
        """The clusters whose database of the same name `identity` goes on with; none where nothing can be read."""
        try:
            values: Any = json.loads(read_regular(self._file(identity), _LARGEST, owner=os.geteuid()))
        except (OSError, ValueError, RecursionError):
            return ()
        if not isinstance(values, dict) or values.get("system") != identity.system:
            return ()
        found = values.get("before")
        if not isinstance(found, list) or not all(isinstance(one, str) and one.isdecimal() for one in found):
            return ()
        return tuple(found)

    def add(self, identity: Identity, origin: Identity | None) -> None:
        """Remember that `identity` was restored from `origin`, where that is the same name on another server."""
        if origin is None or origin.database != identity.database:
            return
        if None in (origin.system, identity.system) or origin.system == identity.system:
            return
        earlier = [one for one in self.before(identity) if one != origin.system]
        values = {
            "format": _FORMAT,
            "database": identity.database,
            "system": identity.system,
            "before": [*earlier, origin.system][-_MOST:],
        }
        make_folder(self.folder)
        with explained(self._file(identity)):
            replace_file(self._file(identity), json.dumps(values).encode() + b"\n")

    def _file(self, identity: Identity) -> Path:
        key = f"{identity.system}\0{identity.database}".encode(errors="surrogatepass")
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"
