"""The bars of the network: where they are measured, and the row of one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import build
from benchmarks.measure import inherited
from refnet.postgres.cluster import Cluster


@dataclass(frozen=True)
class Row:
    """A bar, what was measured, and whether that is enough."""

    what: str
    bar: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Place:
    """A server, a folder for homes, and the factor of all sizes."""

    cluster: Cluster
    folder: Path
    scale: float

    def environment(self, database: str, **more: str) -> dict[str, str]:
        """Return the environment of a command on `database`."""
        return inherited() | {
            "REFNET_HOME": str(self.folder / "home"),
            "REFNET_LOG_FOLDER": "none",
            "REFNET_DATABASE_URL": build.url(self.cluster.target(database)),
            **more,
        }


def refnet() -> str:
    """Return the path of the command."""
    return str(Path(sys.executable).with_name("refnet"))
