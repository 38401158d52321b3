"""The planner's statistics of a database that was just filled."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from refnet.postgres.session import Target
from refnet.recovery.sources.database import failure
from refnet.recovery.sources.database.load import loader_settings
from refnet.recovery.sources.database.maintenance import Session

#: What ANALYZE without a name would take.
_ANALYZED = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""


def analyze(target: Target) -> tuple[str, ...]:
    """Statistics of everything, partitioned parents included: autovacuum never gathers those.

    A table whose own types or functions make that fail (a sentence each) is no reason to go without the rest.
    """
    try:
        with target.connect(loader_settings(0), encoding="UTF8") as session:
            try:
                session.execute(sql.SQL("ANALYZE"))
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                return tuple(_analyze_each(session))
            return ()
    except psycopg.Error as error:
        raise failure.of_server(error, "gathering statistics") from error


def _analyze_each(session: Session) -> Iterator[str]:
    for schema, name in session.execute(_ANALYZED).fetchall():
        try:
            session.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, name)))
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            yield f"the statistics of {schema}.{name} could not be gathered: {error.diag.message_primary}"
