"""The record of a server's databases in REFNET_HOME, so that commands know them without asking the server."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from refnet.catalog.cluster import LONGEST_RECORD, Seen
from refnet.core.files import explained, make_folder, read_regular, replace_file


@dataclass(frozen=True)
class ClusterRecord:
    """The record of one cluster."""

    file: Path

    @classmethod
    def at(cls, home: Path, cluster: str) -> Self:
        """Return the record of `cluster` in a REFNET_HOME."""
        return cls(home / "clusters" / f"{cluster}.json")

    def read(self) -> Seen:
        """The databases seen last; empty without a valid record."""
        try:
            return Seen.from_json(read_regular(self.file, LONGEST_RECORD, owner=os.geteuid()))
        except (OSError, ValueError):
            return Seen()

    def write(self, seen: Seen) -> None:
        """Replace the record, if it changes."""
        if seen == self.read():
            return
        make_folder(self.file.parent)
        with explained(self.file):
            replace_file(self.file, seen.to_json().encode())
