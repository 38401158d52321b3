"""Reads the facts about the server for planning a restore, an artifact's requirements, and the identity of a database."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from refnet.catalog.identity import Identity
from refnet.postgres.connect_error import ConnectError, restore_setting
from refnet.postgres.session import READER_SETTINGS, Target, server_version
from refnet.sources.database.admin_session import Session, admin_session
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.dump import metadata
from refnet.sources.database.plan.restore_facts import LiveDatabase, LiveSessions, ServerFacts, WantedBackup
from refnet.sources.database.restore.create_database import powers
from refnet.sources.database.restore.own_schema import SchemaNeeds
from refnet.sources.database.rows.live_catalog import user_relations

_USER = """
SELECT current_setting('server_version_num')::int, current_user::text, rolsuper, rolcreatedb, pg_is_in_recovery()
FROM pg_roles WHERE rolname = current_user
"""
#: Roles whose rights the login has and that it can give objects to. Before 16 every member can do the second.
_OWNERS = "SELECT rolname::text FROM pg_roles WHERE pg_has_role(oid, 'USAGE') AND pg_has_role(oid, %s)"
#: Extensions that only a superuser can install, in every version.
_RESTRICTED = """
SELECT name::text FROM pg_available_extension_versions GROUP BY name HAVING bool_and(superuser AND NOT trusted)
"""
_CLOSED_TABLESPACES = (
    "SELECT spcname::text FROM pg_tablespace WHERE NOT has_tablespace_privilege(oid, 'CREATE')"
)
#: A restore creates each in its default version: a dump names none.
_EXTENSIONS = "SELECT name::text, coalesce(default_version::text, '') FROM pg_available_extensions"
_LIVE = """
SELECT CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END,
       pg_get_userbyid(datdba)::text, pg_has_role(datdba, 'USAGE'), oid::int8
FROM pg_database WHERE datname = %s
"""
#: Only superusers terminate a superuser's session, members of its role or of pg_signal_backend any other.
_SESSIONS = """
SELECT coalesce(a.application_name, ''), coalesce(a.usename::text, ''), count(*)::int,
       bool_and(me.rolsuper OR (NOT coalesce(r.rolsuper, true)
                AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))
FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid, pg_roles me
WHERE a.datname = %s AND a.backend_type IN ('client backend', 'walsender') AND a.pid <> pg_backend_pid()
  AND me.rolname = current_user
GROUP BY 1, 2 ORDER BY 3 DESC
"""
_ANY_TABLE = user_relations("1", "rp", "LIMIT 1")
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY prepared"
_SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE database = %s ORDER BY 1"
_SUBSCRIPTIONS = """
SELECT subname::text FROM pg_subscription
WHERE subenabled AND subdbid = (SELECT oid FROM pg_database WHERE datname = %s) ORDER BY 1
"""


def facts(admin: Session, target: Target) -> ServerFacts:
    """Facts about the server of `target`, without row counts of the live database."""
    version, user, superuser, createdb, standby = _one(admin, _USER)
    return ServerFacts(
        database=target.name,
        version=version,
        user=user,
        superuser=superuser,
        createdb=createdb,
        standby=standby,
        owners=frozenset(_column(admin, _OWNERS, "SET" if version >= 160_000 else "MEMBER")),
        roles=frozenset(_column(admin, "SELECT rolname::text FROM pg_roles")),
        extensions=dict(admin.execute(_EXTENSIONS).fetchall()),
        restricted=frozenset(_column(admin, _RESTRICTED)),
        tablespaces=frozenset(_column(admin, "SELECT spcname::text FROM pg_tablespace")),
        superusers=frozenset(_column(admin, "SELECT rolname::text FROM pg_roles WHERE rolsuper")),
        closed_tablespaces=frozenset(_column(admin, _CLOSED_TABLESPACES)),
        free=free_bytes(admin, target),
        live=_live(admin, target),
        server=target.address,
        system=system_identifier(admin),
        named=restore_setting(target.named),
    )


def _live(admin: Session, target: Target) -> LiveDatabase | None:
    name = target.name
    found = admin.execute(_LIVE, (name,)).fetchone()
    if found is None:
        return None
    size, owner, owned, oid = found
    return LiveDatabase(
        size=size,
        owner=owner,
        owned=owned,
        oid=oid,
        sessions=sessions(admin, name),
        prepared=_column(admin, _PREPARED, name),
        slots=_column(admin, _SLOTS, name),
        subscriptions=_column(admin, _SUBSCRIPTIONS, name),
        occupied=_occupied(target),
    )


def sessions(admin: Session, name: str) -> tuple[LiveSessions, ...]:
    """Return the sessions in the database `name`, most first."""
    return tuple(LiveSessions(*row) for row in admin.execute(_SESSIONS, (name,)).fetchall())


def _occupied(target: Target) -> bool:
    """Whether the database contains a table, or no session with it is possible."""
    try:
        return holds_tables(target)
    except (ConnectError, psycopg.Error):
        return True


def holds_tables(target: Target) -> bool:
    """Whether the database `target` contains a table; ConnectError if no session is possible."""
    with target.connect() as session:
        return session.execute(_ANY_TABLE).fetchone() is not None


def free_bytes(admin: Session, target: Target) -> int | None:
    """Free bytes on the server's disk; None for another machine or without the right to read it."""
    host = str(admin.info.host or "")
    if not (target.own or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}):
        return None
    row = admin.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    if not row or not row[0]:
        return None
    try:
        # The data folder of a container does not exist here, or is not a cluster that this user can enter.
        folder = Path(row[0])
        if not (target.own or (folder / "PG_VERSION").exists()):
            return None
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def wanted(name: str, index: Index, needs: SchemaNeeds) -> WantedBackup:
    """What the artifact needs from a server.

    `needs`: its schema's requirements on the role.
    """
    roles = tuple(dict.fromkeys(role["name"] for role in index.roles))
    return WantedBackup(
        name=name,
        version=int(index.server["version_num"]),
        moment=datetime.fromisoformat(index.snapshot),
        owner=index.database["owner"],
        bytes=sum(table.raw for table in index.tables),
        tables={table.qualified: table.rows for table in index.tables},
        roles=roles,
        owners=tuple(role for role in needs.owners if role in roles),
        superuser=needs.superuser,
        powers={role["name"]: powers(role) for role in index.roles},
        member_of={role["name"]: tuple(one["role"] for one in role["member_of"]) for role in index.roles},
        extensions=tuple((one["name"], one["version"]) for one in index.extensions),
        tablespaces=tuple(index.tablespaces),
        snapshot=index.server.get("snapshot"),
        system=index.server["system_identifier"],
        partial=index.partial,
        database=index.database["name"],
    )


class _Open:
    """A database whose catalogs are read in their present state."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.major = server_version(session)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._session.execute(query, values or None).fetchall()


def live_state(target: Target) -> dict[str, Any]:
    """Return the database-level state of the live database."""
    with target.connect(READER_SETTINGS, encoding="UTF8") as session:
        return metadata.database(_Open(session))


def _one(admin: Session, query: str) -> tuple[Any, ...]:
    row = admin.execute(query).fetchone()
    assert row is not None  # noqa: S101  # for the type checker
    return row


def _column(admin: Session, query: str, *values: str) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in admin.execute(query, values or None).fetchall())


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


def system_identifier(session: Session) -> str | None:
    """The cluster's system identifier; None if this user may not read it."""
    try:
        row = session.execute("SELECT system_identifier::int8 FROM pg_control_system()").fetchone()
    except errors.InsufficientPrivilege:
        return None
    return str(row[0]) if row else None
