"""Records of databases that continue one from another server, in REFNET_HOME and the backup folder.

After a disk failure the database is on a new cluster, while older artifacts name the old one. Without these records
they would belong to an unknown database. The backup folder has them for every machine and container that reads it,
until a manifest says so.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from refnet.catalog.identity import Identity
from refnet.catalog.manifest import HIDDEN_PREFIX, MOST_BEFORE
from refnet.core import checked
from refnet.core.files import read_regular
from refnet.store import disk

_FORMAT = 1
_LARGEST = 16 << 10  # bytes
_SYSTEM = checked.text(20, like="[0-9]+")
_RECORD = checked.record(
    {"system": checked.or_none(_SYSTEM), "before": checked.each(_SYSTEM, MOST_BEFORE)}, more=True
)


@dataclass(frozen=True)
class Lineage:
    """The records in `folder`, a file per database."""

    folder: Path
    #: Whose files are read; None: anybody's.
    owner: int | None = field(default_factory=os.geteuid)

    @classmethod
    def at(cls, home: Path) -> Self:
        """Return the records of a REFNET_HOME."""
        return cls(home / "lineage")

    @classmethod
    def in_store(cls, root: Path) -> Self:
        """The records in the backup folder `root`; anyone who can write there can also write manifests."""
        return cls(root / f"{HIDDEN_PREFIX}lineage", None)

    def before(self, identity: Identity) -> tuple[str, ...]:
        """Clusters whose database of the same name `identity` continues; empty without a valid record."""
        try:
            text = read_regular(self._file(identity), _LARGEST, owner=self.owner)
            values = _RECORD(checked.document(text))
        except (OSError, ValueError):
            return ()
        return tuple(values["before"]) if values["system"] == identity.system else ()

    def add(self, identity: Identity, origin: Identity | None) -> None:
        """Record that `identity` was restored from `origin`, if that has the same name on another server."""
        if origin is None or origin.database != identity.database:
            return
        if None in (origin.system, identity.system) or origin.system == identity.system:
            return
        earlier = [one for one in self.before(identity) if one != origin.system]
        values = {
            "format": _FORMAT,
            "database": identity.database,
            "system": identity.system,
            "before": [*earlier, origin.system][-MOST_BEFORE:],
        }
        disk.write_record(self._file(identity), json.dumps(values).encode() + b"\n")

    def _file(self, identity: Identity) -> Path:
        key = f"{identity.system}\0{identity.database}".encode(errors="surrogatepass")
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"
