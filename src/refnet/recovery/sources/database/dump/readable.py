"""Read from the server who this login is, and what of the database it cannot read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.catalog_queries import OF_EXTENSION, user_relations

#: Timeout of the connection and of each statement, in seconds.
SECONDS = 10

_LOGIN = """
SELECT current_setting('server_version')::text, current_user::text, current_database()::text,
       pg_database_size(current_database())::int8
"""
#: The tables and sequences of a dump: their names, whether they can be read, whether policies hide rows.
_RELATIONS = user_relations(
    """format('%I.%I', n.nspname, c.relname),
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)""",
    "rpS",
    f"""AND c.relpersistence <> 't'
    AND (NOT {OF_EXTENSION} OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig))) ORDER BY 1""",
)
_LARGE_OBJECTS = """
SELECT count(*)::int8 FROM pg_largeobject_metadata m
WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(lomowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT'
                  AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
"""


@dataclass(frozen=True)
class Login:
    """A login in a database, and what a backup by it would miss."""

    #: Such as 17.6.
    version: str
    major: int
    role: str
    database: str
    #: `host:port`, or the folder of the socket.
    address: str
    #: Tables and sequences without the right to read them.
    unreadable: tuple[str, ...]
    #: Tables whose policies (row-level security) apply to the role.
    filtered: tuple[str, ...]
    #: The number of large objects without the right to read them.
    large_objects: int
    #: The size of the database, in bytes.
    size: int

    @property
    def display(self) -> str:
        """`PostgreSQL 17.6 at localhost:5432, database x, role y`."""
        return f"PostgreSQL {self.version} at {self.address}, database {self.database}, role {self.role}"


def login_of(target: Target) -> Login:
    """Connect to `target` and return the login; ConnectError or ServerError if the server does not answer."""
    asked = replace(target, conninfo=make_conninfo(target.conninfo, connect_timeout=SECONDS))
    settings = {**READER_SETTINGS, "statement_timeout": str(SECONDS * 1000)}
    try:
        with asked.connect(settings, encoding="UTF8") as session:
            version, role, database, size = _rows(session, _LOGIN)[0]
            relations = _rows(session, _RELATIONS)
            return Login(
                version=version.split(" ")[0],
                major=server_version(session),
                role=role,
                database=database,
                address=target.address,
                unreadable=tuple(name for name, readable, _ in relations if not readable),
                filtered=tuple(name for name, _, filtered in relations if filtered),
                large_objects=_rows(session, _LARGE_OBJECTS)[0][0],
                size=size,
            )
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"reading the catalog of {target.display}") from None


def _rows(session: psycopg.Connection[tuple[Any, ...]], query: str) -> list[tuple[Any, ...]]:
    return session.execute(query).fetchall()
