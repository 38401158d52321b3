"""The archive of a schema (pg_dump's custom format), restored into one database by sections or by entries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from refnet.postgres.binaries import Binaries
from refnet.recovery.sources.database.artifact import schema_toc
from refnet.recovery.sources.database.dump.pgdump import for_server, without_lz4
from refnet.recovery.sources.database.subprocesses import Programs


@dataclass(frozen=True)
class Archive:
    """An archive and the database that it is restored into. The programs of each call decide its login."""

    path: Path
    binaries: Binaries
    #: Of the database.
    name: str
    #: The server's major.
    server: int
    #: The server was built without lz4.
    without_lz4: bool
    #: Objects go into their tablespaces.
    tablespaces: bool = True

    def entries(self, programs: Programs, section: str) -> tuple[schema_toc.Item, ...]:
        """Return the table of contents of a section, in its order."""
        command = [*self.tool("pg_restore"), "-l", f"--section={section}", str(self.path)]
        listing = programs.run(command, "reading the schema's table of contents")
        return schema_toc.parse(listing.decode("utf-8", "surrogateescape"))

    def create(self, programs: Programs) -> None:
        """Restore pre-data."""
        self._restore(programs, "creating the schema", ["--section=pre-data"])

    def restore(
        self,
        programs: Programs,
        doing: str,
        items: Sequence[schema_toc.Item],
        *,
        jobs: int = 1,
        owners: bool = True,
    ) -> None:
        """Restore exactly `items`. Without --section, which would leave out entries that belong to no section."""
        with self._listing(items) as listing:
            options = [*([f"--jobs={jobs}"] if jobs > 1 else []), *([] if owners else ["--no-owner"])]
            self._restore(programs, doing, [*options, "-L", listing])

    def text(self, programs: Programs, items: Sequence[schema_toc.Item]) -> bytes:
        """Return the SQL of `items`."""
        with self._listing(items) as listing:
            command = [*self.tool("pg_restore"), "--file=-", "-L", listing, str(self.path)]
            return programs.run(command, "reading the schema")

    def psql(self) -> tuple[str, ...]:
        """Return the psql command of every load."""
        return (*self.tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null")

    def tool(self, name: str) -> tuple[str, ...]:
        return (str(self.binaries.tool(name)), "--no-password")

    @contextmanager
    def _listing(self, items: Sequence[schema_toc.Item]) -> Iterator[str]:
        """Write `items` to a file for pg_restore -L; yield its path."""
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, errors="surrogateescape") as listing:
            listing.writelines(f"{item.line}\n" for item in items)
            listing.flush()
            yield listing.name

    @property
    def _options(self) -> list[str]:
        return [] if self.tablespaces else ["--no-tablespaces"]

    def _restore(self, programs: Programs, doing: str, options: Sequence[str]) -> None:
        if self.without_lz4 or self.server < 17 <= self.binaries.major:
            self._restore_as_text(programs, doing, options)
            return
        database = make_conninfo(dbname=self.name)
        command = [*self.tool("pg_restore"), "--exit-on-error", *self._options, "-d", database]
        programs.run([*command, *options, str(self.path)], doing)

    def _restore_as_text(self, programs: Programs, doing: str, options: Sequence[str]) -> None:
        """Restore by psql, without what this older server refuses; in one session, as text has one order."""
        chosen = [option for option in options if not option.startswith("--jobs")]
        command = [str(self.binaries.tool("pg_restore")), "--file=-", *self._options, *chosen]
        text = for_server(self.server, programs.run([*command, str(self.path)], doing))
        programs.run(self.psql(), doing, [without_lz4(text) if self.without_lz4 else text])
