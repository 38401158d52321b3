"""The kept archive of a schema, restored into one database by sections or by entries."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from refnet.postgres.binaries import Binaries
from refnet.recovery.sources.database.artifact import schema_toc
from refnet.recovery.sources.database.dump.pgdump import for_server, without_lz4
from refnet.recovery.sources.database.subprocesses import Programs


@dataclass(frozen=True)
class Archive:
    """The archive `path`, and the database `name` of a server of the major `server`.

    without_lz4: the server was built without it. tablespaces: whether objects get theirs. The programs that are given
    to each call say as whom it talks to the database.
    """

    path: Path
    binaries: Binaries
    name: str
    server: int
    without_lz4: bool
    tablespaces: bool = True

    def entries(self, programs: Programs, section: str) -> tuple[schema_toc.Item, ...]:
        """The table of contents of a section, in its order."""
        command = [*self.tool("pg_restore"), "-l", f"--section={section}", str(self.path)]
        listing = programs.run(command, "reading the schema's table of contents")
        return schema_toc.parse(listing.decode("utf-8", "surrogateescape"))

    def create(self, programs: Programs) -> None:
        """Restore pre-data."""
        doing, options = "creating the schema", ["--section=pre-data"]
        if self.without_lz4:
            self._restore_as_text(programs, doing, options)
        else:
            self._restore(programs, doing, options)

    def restore(
        self,
        programs: Programs,
        doing: str,
        items: Sequence[schema_toc.Item],
        *,
        jobs: int = 1,
        owners: bool = True,
    ) -> None:
        """Restore exactly `items`. Without --section: it would drop entries that have none of their own."""
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, errors="surrogateescape") as listing:
            listing.writelines(f"{item.line}\n" for item in items)
            listing.flush()
            options = [*([f"--jobs={jobs}"] if jobs > 1 else []), *([] if owners else ["--no-owner"])]
            options += ["-L", listing.name]
            if self.without_lz4:
                self._restore_as_text(programs, doing, options)
            else:
                self._restore(programs, doing, options)

    def text(self, programs: Programs, items: Sequence[schema_toc.Item]) -> bytes:
        """The SQL of `items`."""
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, errors="surrogateescape") as listing:
            listing.writelines(f"{item.line}\n" for item in items)
            listing.flush()
            command = [*self.tool("pg_restore"), "--file=-", "-L", listing.name, str(self.path)]
            return programs.run(command, "reading the schema")

    def psql(self) -> tuple[str, ...]:
        """psql as every load runs it."""
        return (*self.tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null")

    def tool(self, name: str) -> tuple[str, ...]:
        return (str(self.binaries.tool(name)), "--no-password")

    @property
    def _options(self) -> list[str]:
        return [] if self.tablespaces else ["--no-tablespaces"]

    def _restore(self, programs: Programs, doing: str, options: Sequence[str]) -> None:
        if self.server < 17 <= self.binaries.major:
            self._restore_as_text(programs, doing, options)
            return
        database = make_conninfo(dbname=self.name)
        command = [*self.tool("pg_restore"), "--exit-on-error", *self._options, "-d", database]
        programs.run([*command, *options, str(self.path)], doing)

    def _restore_as_text(self, programs: Programs, doing: str, options: Sequence[str]) -> None:
        """Through psql, without what this older server refuses; by one session, as text has but one order."""
        chosen = [option for option in options if not option.startswith("--jobs")]
        command = [str(self.binaries.tool("pg_restore")), "--file=-", *self._options, *chosen]
        text = for_server(self.server, programs.run([*command, str(self.path)], doing))
        programs.run(self.psql(), doing, [without_lz4(text) if self.without_lz4 else text])
