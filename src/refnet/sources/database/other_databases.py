"""The other databases of a server: a backup of one does not protect them."""

from __future__ import annotations

import psycopg

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database import server_errors
from refnet.sources.database.restore import previous_databases
from refnet.sources.database.sql_names import Codec

#: `postgres` is the database to connect to before there is any other one; by default it is empty.
_OTHERS = """
SELECT datname::text, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
WHERE NOT datistemplate AND datallowconn AND datname NOT IN ('postgres', current_database()) ORDER BY 1
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
