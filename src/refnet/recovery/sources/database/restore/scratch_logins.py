"""The roles of a scratch server: none but its superuser has any power, and each logs in by itself.

SET ROLE and SET SESSION AUTHORIZATION can be reset by the code that they should contain; a login cannot.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from refnet.postgres.cluster import Cluster
from refnet.postgres.scram import verifier
from refnet.postgres.session import Target
from refnet.recovery.sources.database.admin_session import Session
from refnet.recovery.sources.database.artifact.sqlgz import Index

#: Code of one owner may look at the rows of another and be in schemas of all, as the superuser of a restore may.
_EVERYWHERE = sql.SQL("pg_read_all_data, pg_write_all_data")


@dataclass(frozen=True)
class Logins:
    """As whom a proof talks to its scratch server `cluster`.

    builder: the role that creates what can run code of an owner; a member of every role of the artifact. reader: the
    role that compares; it reads everything and writes nothing.
    """

    cluster: Cluster
    builder: str
    reader: str

    def as_superuser(self, database: str) -> Target:
        return self.cluster.target(database)

    def as_builder(self, database: str) -> Target:
        return self.cluster.target(database, self.builder)

    def as_reader(self, database: str) -> Target:
        return self.cluster.target(database, self.reader)

    def as_owner(self, database: str, role: str) -> Target:
        """As the owner of a table; what only the superuser owns is the builder's while the rows are loaded."""
        return self.cluster.target(database, self.builder if role == self.cluster.superuser else role)

    def names(self) -> dict[int, str]:
        """Every role by its oid. Read where names are UTF-8, whatever the encoding of the database."""
        with self.cluster.target().connect(encoding="UTF8") as session:
            return dict(
                session.execute("SELECT oid::int8, rolname::text FROM pg_catalog.pg_roles").fetchall()
            )


def create_logins(admin: Session, cluster: Cluster, index: Index) -> Logins:
    """Create the roles of the artifact, and the builder and the reader, in the scratch server `cluster`."""
    tail = secrets.token_hex(6)
    found = Logins(cluster, f"refnet_builder_{tail}", f"refnet_reader_{tail}")
    may = sql.SQL("LOGIN {} PASSWORD {}").format
    password = sql.Literal(verifier(cluster.password))
    there = {row[0] for row in admin.execute("SELECT rolname::text FROM pg_catalog.pg_roles").fetchall()}
    roles = [sql.Identifier(name) for name in dict.fromkeys(_mentioned(index)) if name not in there]
    builder, reader = sql.Identifier(found.builder), sql.Identifier(found.reader)
    with admin.transaction():
        for role in roles:
            admin.execute(sql.SQL("CREATE ROLE {} ").format(role) + may(sql.SQL(""), password))
        for role in (builder, reader):
            admin.execute(sql.SQL("CREATE ROLE {} ").format(role) + may(sql.SQL("BYPASSRLS"), password))
        members = sql.SQL(", ").join([builder, *roles])
        admin.execute(sql.SQL("GRANT {} TO {}").format(_EVERYWHERE, members))
        if roles:
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(", ").join(roles), builder))
        admin.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(reader))
        for setting in ("lo_compat_privileges", "default_transaction_read_only"):
            admin.execute(sql.SQL("ALTER ROLE {} SET {} = on").format(reader, sql.Identifier(setting)))
    return found


def _mentioned(index: Index) -> Iterator[str]:
    """The owners and grantees of what is restored."""
    for role in index.roles:
        yield role["name"]
        for one in role["member_of"]:
            yield one["role"]
