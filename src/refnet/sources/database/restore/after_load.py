"""What follows once all rows of a restored database are loaded.

Late extensions are created once it has its final name. Materialized views over foreign tables are filled one by one, if
their servers respond: a restore must not fail because such a server is down, so the view stays empty, and the restore
reports it. The planner's statistics are gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from refnet.core.errors import RefnetError
from refnet.core.formatting import sql_name
from refnet.postgres.session import Target, server_version
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.proof.compare import compare, failed
from refnet.sources.database.restore.left_out import LeftOut
from refnet.sources.database.restore.load import How, Loader
from refnet.sources.database.restore.loader_settings import loader_settings, time_zone
from refnet.sources.database.restore.own_schema import LateExtensions
from refnet.sources.database.restore.schema_archive import Step
from refnet.sources.database.rows.live_catalog import user_relations
from refnet.sources.database.workers import Workers


def create_late_extensions(
    reader: Reader, target: Target, workers: Workers, late: LateExtensions, index: Index
) -> tuple[str, ...]:
    """Create the late extensions in `target`; return notes. RefnetError on failure or difference.

    A rejected extension without rows is left out: nothing in the database needs it.

    index: of `reader`, with the digests of all tables.
    """
    names, part = ", ".join(sorted(late.names)), late.part(index, late=True)
    rows = sum(table.rows for table in part.tables)
    try:
        with _LateLoader(reader, target, workers, How()) as loader:
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
        self._archive.restore(Step(self._programs, f"creating the extension {names}"), late.items)
        for number, table in enumerate(self._index.tables):
            for member in self._index.members if late.has(table) else ():
                if member.table == number:
                    self._load_block(table, member)
        part = late.part(self._index, late=True)
        with self._connect() as session:
            for name, value, called in part.sequences:
                session.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", (name, value, called))


def _incomplete(error: RefnetError, names: str) -> RefnetError:
    return RefnetError(
        f"the database is restored without the extension {names}: {error.message}",
        f"CREATE EXTENSION there, then restore its tables (--table); or `refnet undo`. {error.hint}",
        error.code,
    )


#: Seconds for one view: a server may accept the query and never answer.
_SECONDS = 300.0

#: By oid, the order of their creation: a view comes after those that it reads.
_EMPTY = """
SELECT format('%I.%I', n.nspname, c.relname), concat(n.nspname, '.', c.relname) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid
"""


def refresh_foreign_views(target: Target, index: Index) -> tuple[str, ...]:
    """Fill the foreign views of `index` in `target`; return sentences about views that stay empty."""
    if not index.foreign_views:
        return ()
    with target.connect(encoding="UTF8") as session:
        settings = {**loader_settings(server_version(session)), "statement_timeout": f"{_SECONDS * 1000:.0f}"}
        settings |= time_zone(session, index)
    notes = []
    with target.connect(settings, encoding="UTF8") as session:
        recorded = {name for _, name in index.foreign_views}
        empty = session.execute(_EMPTY).fetchall()
        for quoted, name in ((quoted, name) for quoted, name in empty if name in recorded):
            try:
                session.execute(f"REFRESH MATERIALIZED VIEW {quoted}".encode())
            except psycopg.Error as error:
                notes.append(
                    f"{name} is empty, as it reads foreign tables ({server_errors.words(error)}):"
                    f" REFRESH MATERIALIZED VIEW {quoted} when their server answers"
                )
    return tuple(notes)


_ASKING = """
SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'f')
"""
#: What ANALYZE without a name would take, and whether it asks other servers for it: below are foreign tables.
_ANALYZED = user_relations(
    """
    n.nspname::text, c.relname::text, c.oid IN (
        WITH RECURSIVE asking AS (
            SELECT i.inhparent AS oid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind = 'f'
            UNION SELECT i.inhparent FROM pg_inherits i JOIN asking a ON a.oid = i.inhrelid)
        SELECT oid FROM asking)""",
    "rpm",
    "AND c.relpersistence <> 't' ORDER BY 1, 2",
)


def analyze(target: Target) -> tuple[str, ...]:
    """Analyze every table, partitioned parents included, which autovacuum never analyzes.

    Return sentences about tables that failed because of their types, functions or foreign servers.
    """
    try:
        with target.connect(loader_settings(0), encoding="UTF8") as session:
            # Names are read only where needed: in a database without an encoding they may not be text.
            if session.execute(_ASKING).fetchone() == (False,) and _analyze_all(session):
                return ()
            return tuple(_analyze_each(session, session.execute(_ANALYZED).fetchall()))
    except psycopg.Error as error:
        raise server_errors.of_server(error, "gathering statistics") from error


def _analyze_all(session: Session) -> bool:
    """Analyze everything at once; False if that failed, as the server does not name the table."""
    try:
        session.execute(sql.SQL("ANALYZE"))
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return True


def _analyze_each(session: Session, tables: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    for schema, name, asks in tables:
        limit = _SECONDS * 1000 if asks else 0
        session.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(limit))))
        try:
            session.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, name)))
        except psycopg.Error as error:
            of_this_server = isinstance(error, psycopg.OperationalError) and not asks
            if session.closed or of_this_server:
                raise
            yield f"the statistics of {schema}.{name} could not be gathered: {error.diag.message_primary}"
