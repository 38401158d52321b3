"""Creates late extensions once the database has its final name, and loads their rows."""

from __future__ import annotations

import psycopg

from refnet.core.errors import RefnetError
from refnet.core.formatting import sql_name
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.proof.compare import compare, failed
from refnet.sources.database.restore.late_extensions import LateExtensions
from refnet.sources.database.restore.left_out import LeftOut
from refnet.sources.database.restore.load import Loader
from refnet.sources.database.workers import Workers


def create(
    reader: Reader, target: Target, workers: Workers, late: LateExtensions, index: Index
) -> tuple[str, ...]:
    """Create the late extensions in `target`; return notes. RefnetError on failure or difference.

    A rejected extension without rows is left out: nothing in the database needs it.

    index: of `reader`, with the digests of all tables.
    """
    names, part = ", ".join(sorted(late.names)), late.part(index, late=True)
    rows = sum(table.rows for table in part.tables)
    try:
        with private_folder() as folder, _LateLoader(reader, target, workers, folder, None) as loader:
            loader.create(names, late)
    except psycopg.Error as error:
        raise _incomplete(server_errors.of_server(error, f"filling the extension {names}"), names) from error
    except RefnetError as error:
        if rows or error.transient:
            raise _incomplete(error, names) from error
        by_hand = "; ".join(f"CREATE EXTENSION {sql_name(name)}" for name in sorted(late.names))
        return (str(LeftOut(f"extension {names}", "is missing", error.message, by_hand)),)
    if wrong := failed(compare(target, part, workers)):
        raise _incomplete(wrong, names)
    return (
        f"the extension {names} was created after the swap, as it needs the name of the database; {rows:,} rows",
    )


class _LateLoader(Loader):
    def create(self, names: str, late: LateExtensions) -> None:
        self._archive.restore(self._programs, f"creating the extension {names}", late.items)
        for number, table in enumerate(self._index.tables):
            for member in self._index.members if late.has(table) else ():
                if member.table == number:
                    self._load_block(table, member)
        part = late.part(self._index, late=True)
        with self._target.connect(self._settings, encoding=self._index.encoding) as session:
            for name, value, called in part.sequences:
                session.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", (name, value, called))


def _incomplete(error: RefnetError, names: str) -> RefnetError:
    return RefnetError(
        f"the database is restored without the extension {names}: {error.message}",
        f"CREATE EXTENSION there, then restore its tables (--table); or `refnet undo`. {error.hint}",
        error.code,
    )
