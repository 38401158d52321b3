"""A load by a login that is no superuser: a member of the owners, to whom it gives what it creates.

ALTER … OWNER TO asks that the new owner may create in the schema (of a publication: in the database), and the
privileges that say so come later in a dump. So they are lent for the time of the load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from refnet.postgres.session import Target
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.artifact.schema_toc import Item
from refnet.recovery.sources.database.restore.schema_archive import Archive
from refnet.recovery.sources.database.subprocesses import Programs

Session = psycopg.Connection[tuple[Any, ...]]

#: Roles whose rights this login has, and who are not the superusers that need nothing.
_OWNERS = """
SELECT r.rolname::text FROM pg_roles me, pg_roles r
WHERE me.rolname = current_user AND NOT me.rolsuper AND NOT r.rolsuper
  AND r.rolname = ANY (%s) AND pg_has_role(r.oid, 'USAGE') ORDER BY 1
"""
_LACKS_SCHEMA = """
SELECT n.nspname::text, r.rolname::text FROM pg_namespace n, pg_roles r
WHERE r.rolname = ANY (%s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND pg_has_role(n.nspowner, 'USAGE') AND NOT has_schema_privilege(r.oid, n.oid, 'CREATE') ORDER BY 1, 2
"""
_LACKS_DATABASE = """
SELECT current_database()::text, rolname::text FROM pg_roles
WHERE rolname = ANY (%s) AND NOT has_database_privilege(oid, current_database(), 'CREATE') ORDER BY 2
"""


@dataclass(frozen=True)
class Loan:
    """CREATE on `kind` (SCHEMA or DATABASE) `name`, lent to `role`."""

    kind: sql.SQL
    name: str
    role: str

    def statement(self, text: sql.SQL) -> sql.Composed:
        return text.format(self.kind, sql.Identifier(self.name), sql.Identifier(self.role))


class OwnSchema:
    """The schema of `archive`, restored by the login of `target`, which may be a superuser or a member of the owners."""

    def __init__(
        self,
        archive: Archive,
        programs: Programs,
        target: Target,
        settings: Mapping[str, str],
        roles: Iterable[Mapping[str, Any]],
    ) -> None:
        """`settings`: of a loading session. `roles`: that the schema gives objects or privileges to."""
        self._archive, self._programs, self._target, self._settings = archive, programs, target, settings
        self._roles = [role["name"] for role in roles]
        self._before: tuple[Item, ...] = ()
        self._loans: tuple[Loan, ...] = ()

    def create(self) -> None:
        """Restore what comes before the rows."""
        owners = self._owners()
        if not owners:
            self._archive.create(self._programs)
            return
        self._before = self._archive.entries(self._programs, "pre-data")
        schemas = [item for item in self._before if item.what.startswith("SCHEMA ")]
        rest = [item for item in self._before if item not in schemas]
        self._restore("creating the schema", schemas)
        with self._session("preparing the schemas for their owners") as session:
            self._loans = _lend(session, owners)
        self._restore("creating the schema", rest)

    def finish(self, items: Sequence[Item], jobs: int) -> None:
        """Restore `items` of post-data, and take back what was lent, but for what the schema's privileges say."""
        self._restore("building keys and indexes", items, jobs)
        if self._loans:
            with self._session("taking back what the owners were lent") as session:
                for loan in self._loans:
                    session.execute(loan.statement(sql.SQL("REVOKE CREATE ON {} {} FROM {}")))
            granted = [item for item in self._before if item.what.startswith("ACL - SCHEMA ")]
            self._restore("setting the privileges on schemas", granted)

    def _restore(self, doing: str, items: Sequence[Item], jobs: int = 1) -> None:
        if items:
            self._archive.restore(self._programs, doing, items, jobs=jobs)

    def _owners(self) -> tuple[str, ...]:
        """The roles to whom this login may have to lend something; none where it is a superuser."""
        with self._session("reading roles") as session:
            return tuple(name for (name,) in session.execute(_OWNERS, (self._roles,)).fetchall())

    @contextmanager
    def _session(self, doing: str) -> Iterator[Session]:
        try:
            with self._target.connect(self._settings, encoding="UTF8") as session:
                yield session
        except psycopg.Error as error:
            raise server_errors.of_server(error, doing) from error


def _lend(session: Session, owners: Sequence[str]) -> tuple[Loan, ...]:
    """Let `owners` create in every schema and in the database; what they could not before."""
    lacks_schema = session.execute(_LACKS_SCHEMA, (list(owners),)).fetchall()
    lacks_database = session.execute(_LACKS_DATABASE, (list(owners),)).fetchall()
    loans = (
        *(Loan(sql.SQL("SCHEMA"), name, role) for name, role in lacks_schema),
        *(Loan(sql.SQL("DATABASE"), name, role) for name, role in lacks_database),
    )
    for loan in loans:
        session.execute(loan.statement(sql.SQL("GRANT CREATE ON {} {} TO {}")))
    return loans
