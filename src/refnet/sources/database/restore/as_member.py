"""Restores a schema as a login without superuser rights: a member of the owners, who then own the objects.

ALTER … OWNER TO requires that the new owner may create in the schema (for a publication: in the database). A dump
grants that later, so it is granted temporarily for the load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.schema_toc import Item
from refnet.sources.database.restore.late_extensions import LateExtensions
from refnet.sources.database.restore.leaves import Leaves
from refnet.sources.database.restore.schema_archive import Archive
from refnet.sources.database.workers import Programs

#: Roles whose rights this login has; none where it is a superuser.
_OWNERS = """
SELECT r.rolname::text FROM pg_roles me, pg_roles r
WHERE me.rolname = current_user AND NOT me.rolsuper AND NOT r.rolsuper
  AND r.rolname = ANY (%s) AND pg_has_role(r.oid, 'USAGE') ORDER BY 1
"""
_CANNOT_CREATE_IN_SCHEMA = """
SELECT n.nspname::text, r.rolname::text FROM pg_namespace n, pg_roles r
WHERE r.rolname = ANY (%s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND pg_has_role(n.nspowner, 'USAGE') AND NOT has_schema_privilege(r.oid, n.oid, 'CREATE') ORDER BY 1, 2
"""
_CANNOT_CREATE_IN_DATABASE = """
SELECT current_database()::text, rolname::text FROM pg_roles
WHERE rolname = ANY (%s) AND NOT has_database_privilege(oid, current_database(), 'CREATE') ORDER BY 2
"""


@dataclass(frozen=True)
class TemporaryGrant:
    """CREATE on a schema or on the database, granted to `role` for the load."""

    #: SCHEMA or DATABASE.
    kind: sql.SQL
    name: str
    role: str

    def statement(self, text: sql.SQL) -> sql.Composed:
        return text.format(self.kind, sql.Identifier(self.name), sql.Identifier(self.role))


class OwnSchema:
    """Restores the schema of `archive` by the login of `target`: a superuser or a member of the owners."""

    def __init__(
        self,
        archive: Archive,
        programs: Programs,
        target: Target,
        settings: Mapping[str, str],
        roles: Iterable[Mapping[str, Any]],
    ) -> None:
        """`settings`: of a loading session. `roles`: roles that get objects or privileges in the schema."""
        self._archive, self._programs, self._target, self._settings = archive, programs, target, settings
        self._roles = [role["name"] for role in roles]
        self._before: tuple[Item, ...] = ()
        #: The extensions that are created later.
        self.late = LateExtensions()
        self._grants: tuple[TemporaryGrant, ...] = ()

    def create(self) -> None:
        """Restore the entries before the rows."""
        owners = self._owners()
        self._before = self._archive.entries(self._programs, "pre-data")
        items = self.late.without(item for item in self._before if not item.is_label)
        if not owners and not self.late.names:
            self._restore("creating the schema", items)
            return
        first = [item for item in items if item.what.startswith(("SCHEMA ", "EXTENSION "))]
        rest = [item for item in items if item not in first]
        self._restore("creating the schema", first)
        with self._session("preparing the schemas for their owners") as session:
            self._grants = _grant_create(session, owners) if owners else ()
            rest = self.late.without_schemas(rest, session) if self.late.names else rest
        self._restore("creating the schema", rest)

    def finish(self, items: Sequence[Item], jobs: int, leaves: Leaves) -> None:
        """Restore `items` of post-data, revoke the temporary privileges and set the schemas' own again.

        `leaves` restores entries that may be left out.
        """
        if items := [*(item for item in self._before if item.is_label), *items]:
            leaves.restore(self._programs, "building keys and indexes", items, jobs=jobs)
        if self._grants:
            with self._session("revoking the temporary privileges of the owners") as session:
                for one in self._grants:
                    session.execute(one.statement(sql.SQL("REVOKE CREATE ON {} {} FROM {}")))
            granted = [item for item in self._before if item.what.startswith("ACL - SCHEMA ")]
            self._restore("setting the privileges on schemas", granted)

    def _restore(self, doing: str, items: Sequence[Item]) -> None:
        if items:
            self._archive.restore(self._programs, doing, items)

    def _owners(self) -> tuple[str, ...]:
        """Roles that may need a temporary privilege; empty for a superuser login."""
        with self._session("reading roles") as session:
            return tuple(name for (name,) in session.execute(_OWNERS, (self._roles,)).fetchall())

    @contextmanager
    def _session(self, doing: str) -> Iterator[Session]:
        try:
            with self._target.connect(self._settings, encoding="UTF8") as session:
                yield session
        except psycopg.Error as error:
            raise server_errors.of_server(error, doing) from error


def _grant_create(session: Session, owners: Sequence[str]) -> tuple[TemporaryGrant, ...]:
    """Grant CREATE on all schemas and the database to `owners`; return the new grants."""
    in_schema = session.execute(_CANNOT_CREATE_IN_SCHEMA, (list(owners),)).fetchall()
    in_database = session.execute(_CANNOT_CREATE_IN_DATABASE, (list(owners),)).fetchall()
    grants = (
        *(TemporaryGrant(sql.SQL("SCHEMA"), name, role) for name, role in in_schema),
        *(TemporaryGrant(sql.SQL("DATABASE"), name, role) for name, role in in_database),
    )
    for one in grants:
        session.execute(one.statement(sql.SQL("GRANT CREATE ON {} {} TO {}")))
    return grants
