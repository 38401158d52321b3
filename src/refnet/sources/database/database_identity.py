"""Read the identity of a database from its server."""

from __future__ import annotations

from dataclasses import replace

import psycopg
from psycopg.conninfo import make_conninfo

from refnet.catalog.identity import Identity
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.rows.row_counts import system_identifier

#: Timeout of the connection, in seconds.
_SECONDS = 3


def identity_of(target: Target) -> Identity:
    """Identity of the database `target`, which need not exist; system None if the server does not respond."""
    asked = replace(target, conninfo=make_conninfo(target.conninfo, connect_timeout=_SECONDS))
    try:
        return Identity(target.name, _system(asked))
    except (ConnectError, psycopg.Error):
        return Identity(target.name)


def _system(target: Target) -> str | None:
    try:
        with target.connect() as session:
            return system_identifier(session)
    except ConnectError as error:
        if not error.no_such_database:
            raise
    with admin_session(target) as session:
        return system_identifier(session)
