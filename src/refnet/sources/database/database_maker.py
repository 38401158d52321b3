"""The database as a source of backups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO, Self

from refnet.catalog.artifact import Made, Progress, Turn, at_once, silent
from refnet.catalog.manifest import Compared
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.sources.database.artifact.own_artifact import made
from refnet.sources.database.dump import server_clock
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.dump.source_rows import Options
from refnet.sources.database.workers import Workers


@dataclass(frozen=True)
class DatabaseMaker:
    """A database."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    jobs: int
    #: `table` or `schema.table`; empty: everything.
    tables: tuple[str, ...] = ()
    #: The server digests the rows of at most so many bytes of tables; else it only counts them.
    digest_up_to: int = 0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def digesting(self, up_to: int) -> Self:
        return replace(self, digest_up_to=up_to)

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        target = self.target()
        with target.connect(READER_SETTINGS) as session:
            warnings = server_clock.warnings(session, self.now)
            binaries = self.binaries(server_version(session))
            portable = bool(self.digest_up_to) and self._proves_with_another(server_version(session))
        options = Options(turn, self.digest_up_to, portable)
        index = dump(target, out, Workers(binaries, self.jobs, progress), self.tables, options)
        digested = any(table.source for table in index.tables)
        compared = Compared.DIGESTED if digested else Compared.COUNTED
        return replace(made(index), warnings=warnings, compared=compared)

    def _proves_with_another(self, major: int) -> bool:
        """Return whether a proof on this machine runs a server of another major."""
        try:
            return self.binaries(major, server=True).major != major
        except RefnetError:
            return True
