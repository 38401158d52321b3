"""Gathers the planner's statistics of a restored database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.restore.foreign_views import SECONDS
from refnet.sources.database.restore.load import loader_settings
from refnet.sources.database.rows.live_catalog import user_relations

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
        limit = SECONDS * 1000 if asks else 0
        session.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(limit))))
        try:
            session.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, name)))
        except psycopg.Error as error:
            of_this_server = isinstance(error, psycopg.OperationalError) and not asks
            if session.closed or of_this_server:
                raise
            yield f"the statistics of {schema}.{name} could not be gathered: {error.diag.message_primary}"
