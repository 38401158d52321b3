"""The databases of a server: those of a cluster, and the others beside one, which a backup of it does not protect."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.settings import SourceSettings
from refnet.sources.database import server_errors
from refnet.sources.database.restore import previous_databases
from refnet.sources.database.sql_text import Codec

#: `postgres` is the database to connect to before there is any other one; by default it is empty.
_OTHERS = """
SELECT datname::text, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
WHERE NOT datistemplate AND datallowconn AND datname NOT IN ('postgres', current_database()) ORDER BY 1
"""
#: Without the templates.
_ALL = """
SELECT datname::text, shobj_description(oid, 'pg_database'), datconnlimit, datallowconn FROM pg_database
WHERE NOT datistemplate ORDER BY 1
"""


def other_databases(target: Target) -> list[str]:
    """Other databases on the server of `target`, without databases made by restores.

    RefnetError if the server cannot be asked.
    """
    try:
        with target.connect({**READER_SETTINGS, "statement_timeout": "10000"}) as session:
            codec, _ = Codec.of_server(session)
            rows = codec.rows(session, _OTHERS)
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"listing the databases of {target.display}") from error
    return [name for name, comment in rows if previous_databases.read(name, comment) is None]


def of_cluster(cluster: SourceSettings, before: Collection[str]) -> list[str]:
    """Databases of the server to back up, including known ones that now refuse connections: their backup must fail."""
    target = Target.from_url(cluster.url or "", f"clusters.{cluster.name}.url")
    try:
        with target.connect(encoding="UTF8") as session:
            rows = session.execute(_ALL).fetchall()
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"listing the databases of {target.display}") from error
    return [
        name
        for name, comment, limit, open_to_sessions in rows
        if (open_to_sessions or name in before)
        and not previous_databases.left_by_restore(name, comment, limit)
    ]
