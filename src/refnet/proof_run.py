"""The options and the state of a proof."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refnet.catalog.artifact import Finding, Progress, Proof, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.required_tables import Required
from refnet.core.clock import Phases
from refnet.postgres.binaries import Binaries

#: The finding that says whether the artifact loads.
LOADED = "restore into an empty server"


@dataclass(frozen=True)
class ProofOptions:
    """Options of a proof."""

    #: The folder for scratch servers and private folders.
    base: Path
    #: Return PostgreSQL's programs of a major or newer (None: any), with a server if `server` is true.
    binaries: Callable[..., Binaries]
    #: Workers that read, load and compare.
    jobs: int
    progress: Progress = silent
    #: Tables without which an artifact of a database is not intact.
    required: Required = Required()
    #: Load foreign dumps even where this machine cannot build every isolation layer.
    trust: bool = False


@dataclass
class ProofRun:
    """One proof, as far as it has come."""

    findings: list[Finding] = field(default_factory=list)
    #: Reached so far; None: not even `intact`.
    level: Level | None = None
    #: Version and origin of the scratch server's programs.
    server: str = ""
    #: For display, a dict per table.
    rows: tuple[dict[str, Any], ...] = ()
    #: Isolation layers around the scratch server that this machine cannot build.
    missing_walls: tuple[str, ...] = ()
    #: The content digests of the tables, if it is proven.
    row_digests: str = ""
    #: Receives the name of each phase.
    progress: Progress = silent
    phases: Phases = field(init=False)

    def __post_init__(self) -> None:
        self.phases = Phases(time.monotonic, lambda name: self.progress(name, 0, None))

    def add(self, *findings: Finding) -> None:
        self.findings += findings

    @property
    def failed(self) -> bool:
        return any(finding.outcome is Outcome.FAILED for finding in self.findings)

    def result(self, wanted: Level) -> Proof:
        return Proof(
            wanted,
            self.level,
            tuple(self.findings),
            self.server,
            self.phases.seconds,
            self.rows,
            self.missing_walls,
            self.row_digests,
        )
