"""What a proof of every kind has: the required tables, the options, the state."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet.catalog.artifact import Finding, Progress, Proof, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.core.clock import Phases
from refnet.postgres.scratch_memory import free_memory, scratch_settings

if TYPE_CHECKING:
    from refnet.postgres.binaries import Binaries

#: The finding that says whether the artifact loads.
LOADED = "restore into an empty server"
#: The finding of amcheck.
STRUCTURE = "structure of tables and indexes (amcheck)"
MIGRATIONS = "refnet_migrations"
#: The tables of RefNet's own schema, each with columns that identify it.
NETWORK: Mapping[str, frozenset[str]] = {
    "papers": frozenset({"title_key", "provenance", "details_fetched_at"}),
    "citations": frozenset({"citing_id", "cited_id", "is_influential", "provenance"}),
    "summaries": frozenset({"paper_id", "prompt_version", "model", "content"}),
    "jobs": frozenset({"paper_id", "claimed_by", "claimed_until", "dedupe_key"}),
}
#: Schema and name of a table → its columns.
Tables = Mapping[tuple[str, str], Collection[str]]


@dataclass(frozen=True)
class Required:
    """Tables that every complete artifact of a database must contain."""

    #: `table` or `schema.table`, from the settings; None: the tables of RefNet's own schema, if it is recognized.
    names: tuple[str, ...] | None = None
    #: The database of the settings, or None; artifacts of other databases need not contain its tables.
    database: str | None = None

    def check(self, tables: Tables, database: str | None) -> Iterator[Finding]:
        """Yield a finding per required table. `tables`: the tables of `database` (None: unknown)."""
        found = {name for _, name in tables} | {f"{schema}.{name}" for schema, name in tables}
        for name in self._of(tables, database):
            reason = "" if name in found else "missing from the artifact"
            outcome = Outcome.FAILED if reason else Outcome.PASSED
            yield Finding(f"required table {name}", outcome, reason)

    def _of(self, tables: Tables, database: str | None) -> tuple[str, ...]:
        if self.names is None:
            return tuple(NETWORK) if _is_network(tables) else ()
        another = database is not None and self.database is not None and database != self.database
        return () if another else self.names


#: Nothing is required.
NOTHING = Required(())


def structure(code: int, output: bytes) -> Finding:
    """Return the finding of a pg_amcheck that ended with `code`."""
    outcome = {0: Outcome.PASSED, 2: Outcome.FAILED}.get(code, Outcome.UNVERIFIED)
    said = output.decode(errors="replace").strip().splitlines()
    why = said[0] if said else "pg_amcheck failed without a message"
    return Finding(STRUCTURE, outcome, "" if outcome is Outcome.PASSED else why)


def _is_network(tables: Tables) -> bool:
    """Whether the schema is RefNet's own, by its table of migrations or any of its tables."""
    return any(
        name == MIGRATIONS or (name in NETWORK and NETWORK[name] <= set(columns))
        for (_, name), columns in tables.items()
    )


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
    #: Bytes of memory for unpacked files and page buffers; 0: everything is on the disk.
    memory: int = 0
    #: Load foreign dumps even where this machine cannot build every isolation layer.
    trust: bool = False
    #: The setting prove.memory: what bounds the memory of a scratch server, in bytes; None: not set.
    memory_bound: int | None = None
    #: It is a drill, which takes the time for what no backup waits for.
    drill: bool = False

    def server_settings(self, text: int | None = None) -> Mapping[str, str]:
        """Return the settings of a scratch server for `text` bytes of rows (None: unknown), by the memory that is free."""
        return scratch_settings(free_memory(), self.memory_bound, self.jobs, text)


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
