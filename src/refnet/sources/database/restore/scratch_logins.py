"""The roles of a scratch server: only its superuser has superuser rights, and each role logs in by itself.

Code can reset SET ROLE and SET SESSION AUTHORIZATION; it cannot leave its login.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from refnet.postgres.cluster import Cluster
from refnet.postgres.scram import verifier
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index

#: Code of one owner may read rows of another and use all schemas, as it may in a restore by a superuser.
_EVERYWHERE = sql.SQL("pg_read_all_data, pg_write_all_data")
#: Of PostgreSQL's own roles, those that may own tables. The others give powers that code of an owner, which runs as the
#: builder, must not have. GRANT refuses pg_database_owner, whose only member is the owner of the database.
_OWNING = """
INSERT INTO pg_catalog.pg_auth_members (roleid, member, grantor, admin_option{options[0]})
SELECT r.oid, b.oid, 10, false{options[1]} FROM pg_catalog.pg_roles r, pg_catalog.pg_roles b
WHERE b.rolname = '{builder}' AND r.rolname IN ('pg_database_owner', 'pg_read_all_data', 'pg_write_all_data', 'pg_maintain')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.roleid = r.oid AND m.member = b.oid)
"""
_OPTIONS = {
    False: ("", ""),
    True: (
        ", oid, inherit_option, set_option",
        ", pg_catalog.pg_nextoid('pg_catalog.pg_auth_members', 'oid', 'pg_catalog.pg_auth_members_oid_index'), true, true",
    ),
}


@dataclass(frozen=True)
class Logins:
    """The logins of a proof on its scratch server."""

    cluster: Cluster
    #: Creates what can run code of an owner; a member of every role of the artifact.
    builder: str
    #: Compares: reads everything and writes nothing.
    reader: str

    def as_superuser(self, database: str) -> Target:
        return self.cluster.target(database)

    def as_builder(self, database: str) -> Target:
        return self.cluster.target(database, self.builder)

    def as_reader(self, database: str) -> Target:
        return self.cluster.target(database, self.reader)

    def as_owner(self, database: str, role: str) -> Target:
        """Log in as the owner of a table, or as the builder for an owner that cannot log in.

        The builder owns the superuser's tables while rows are loaded, and is a member of some of PostgreSQL's own roles.
        """
        cannot = role == self.cluster.superuser or role.startswith("pg_")
        return self.cluster.target(database, self.builder if cannot else role)

    def names(self) -> dict[int, str]:
        """All roles by oid, read as UTF-8 regardless of the database's encoding."""
        with self.cluster.target().connect(encoding="UTF8") as session:
            return dict(
                session.execute("SELECT oid::int8, rolname::text FROM pg_catalog.pg_roles").fetchall()
            )


def create_logins(admin: Session, cluster: Cluster, index: Index) -> Logins:
    """Create the artifact's roles, the builder and the reader in the scratch server `cluster`."""
    tail = secrets.token_hex(6)
    found = Logins(cluster, f"refnet_builder_{tail}", f"refnet_reader_{tail}")
    may = sql.SQL("LOGIN {} PASSWORD {}").format
    password = sql.Literal(verifier(cluster.password))
    existing = {row[0] for row in admin.execute("SELECT rolname::text FROM pg_catalog.pg_roles").fetchall()}
    roles = [sql.Identifier(name) for name in dict.fromkeys(_mentioned(index)) if name not in existing]
    builder = sql.Identifier(found.builder)
    with admin.transaction():
        for role in roles:
            admin.execute(sql.SQL("CREATE ROLE {} ").format(role) + may(sql.SQL(""), password))
        admin.execute(sql.SQL("CREATE ROLE {} ").format(builder) + may(sql.SQL("BYPASSRLS"), password))
        members = sql.SQL(", ").join([builder, *roles])
        admin.execute(sql.SQL("GRANT {} TO {}").format(_EVERYWHERE, members))
        if roles:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(", ").join(roles), builder))
        own = _OWNING.format(builder=found.builder, options=_OPTIONS[cluster.binaries.major >= 16])
        admin.execute(own.encode())
        create_reader(admin, cluster, found.reader)
    return found


def create_reader(admin: Session, cluster: Cluster, name: str) -> None:
    """Create the login `name`, which reads everything and writes nothing."""
    reader, password = sql.Identifier(name), sql.Literal(verifier(cluster.password))
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(reader, password))
    admin.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(reader))
    for setting in ("lo_compat_privileges", "default_transaction_read_only"):
        admin.execute(sql.SQL("ALTER ROLE {} SET {} = on").format(reader, sql.Identifier(setting)))


def _mentioned(index: Index) -> Iterator[str]:
    """Owners and grantees of restored objects."""
    for role in index.roles:
        yield role["name"]
        for one in role["member_of"]:
            yield one["role"]
