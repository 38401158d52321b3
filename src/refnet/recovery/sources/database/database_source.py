"""The database as a source: its backup and its proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import Level, SourceName
from refnet.recovery.model.source import Made, OpenArtifact, Progress, Proof, silent
from refnet.recovery.sources.database.artifact.index import Index
from refnet.recovery.sources.database.artifact.required_tables import NOTHING, Required
from refnet.recovery.sources.database.artifact.sqlgz import NotAnArtifact, Reader
from refnet.recovery.sources.database.dump import server_clock
from refnet.recovery.sources.database.dump.parallel_dump import dump
from refnet.recovery.sources.database.restore import foreign_proof
from refnet.recovery.sources.database.restore.proof import Prover, rows_of
from refnet.recovery.sources.database.restore.proof_run import ProofOptions


@dataclass(frozen=True)
class DatabaseSource:
    """A database."""

    #: Called by a backup; a proof needs no server.
    target: Callable[[], Target]
    #: Return the programs for a server's major, with a server if `server` is true.
    binaries: Callable[..., Binaries]
    #: The folder of scratch servers.
    scratch: Path
    jobs: int
    #: `table` or `schema.table`; empty: everything.
    tables: tuple[str, ...] = ()
    #: An artifact without these tables is not intact.
    required: Required = Required()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: Load foreign dumps even if an isolation layer of the scratch server is not available.
    trust: bool = False

    @property
    def name(self) -> SourceName:
        return SourceName.DATABASE

    def dump(self, out: BinaryIO, progress: Progress = silent) -> Made:
        target = self.target()
        warnings = server_clock.warnings(target, self.now)
        made = _made(dump(target, self.binaries, out, self.jobs, self.tables, progress))
        return replace(made, warnings=warnings)

    def prove(self, artifact: OpenArtifact, level: Level, progress: Progress = silent) -> Proof:
        try:
            reader = Reader(artifact.name, artifact.open)
        except NotAnArtifact:
            return foreign_proof.prove(artifact, self.binaries, level, self._options(progress, self.required))
        major = reader.index.programs_major(int(reader.index.server["version_num"]) // 10_000)
        binaries = self.binaries(major, server=level.rank > Level.INTACT.rank)
        required = NOTHING if reader.index.partial else self.required
        return Prover(reader, binaries, self._options(progress, required)).prove(level)

    def _options(self, progress: Progress, required: Required) -> ProofOptions:
        return ProofOptions(self.scratch, self.jobs, progress, required, self.trust)


def _made(index: Index) -> Made:
    return Made(
        created=datetime.fromisoformat(index.snapshot),
        details={
            "database": index.database["name"],
            "server_version": index.server["version"],
            "system_identifier": index.server["system_identifier"],
            "tables": len(index.tables),
            "rows": sum(table.rows for table in index.tables),
            "raw_bytes": sum(member.raw for member in index.members),
        },
        unchecked=index.unchecked,
        partial=index.partial,
    )


def describe(artifact: OpenArtifact) -> Made | None:
    """Return the content of a manifest for `artifact`, from its own index; None for a foreign dump."""
    try:
        return _made(Reader(artifact.name, artifact.open).index)
    except NotAnArtifact:
        return None


def tables_in(artifact: OpenArtifact) -> tuple[dict[str, Any], ...]:
    """Return the tables of `artifact`, as in `Proof.rows`; none for a foreign dump."""
    try:
        return rows_of(Reader(artifact.name, artifact.open).index)
    except NotAnArtifact:
        return ()
