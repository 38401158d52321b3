"""The database as a source of backups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.recovery.model.artifact import Compared
from refnet.recovery.model.source import Made, Progress, Turn, at_once, silent
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.database.artifact.own_artifact import made
from refnet.recovery.sources.database.dump import server_clock
from refnet.recovery.sources.database.dump.parallel_dump import dump
from refnet.recovery.sources.database.workers import Workers


@dataclass(frozen=True)
class DatabaseSource:
    """A database."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    jobs: int
    #: `table` or `schema.table`; empty: everything.
    tables: tuple[str, ...] = ()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        target = self.target()
        with target.connect(READER_SETTINGS) as session:
            warnings = server_clock.warnings(session, self.now)
            binaries = self.binaries(server_version(session))
        index = dump(target, out, Workers(binaries, self.jobs, progress), self.tables, turn)
        return replace(made(index), warnings=warnings, compared=Compared.COUNTED)
