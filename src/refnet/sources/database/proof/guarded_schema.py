"""Restores a schema in a scratch server without running code of a table's owner as superuser.

PostgreSQL evaluates expressions of a schema while it creates it: constants in generated columns, partition keys and
checks, bounds of partitions and first values of aggregates. So the builder, a login without superuser rights that is a
member of every owner, restores whatever can run code of a table's owner, and the superuser restores the rest.

Only the superuser has superuser rights, and each role logs in by itself: code can reset SET ROLE and SET SESSION
AUTHORIZATION; it cannot leave its login.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Self

import psycopg
from psycopg import sql

from refnet.core.errors import RefnetError
from refnet.postgres.cluster import Cluster, verifier
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.restore import create_database
from refnet.sources.database.restore.left_out import Leaves
from refnet.sources.database.restore.schema_archive import Archive, Item, Step
from refnet.sources.database.workers import Programs

#: The state before everything was opened, in tables that end with the session.
_REMEMBER = """
CREATE TEMPORARY TABLE schemas AS SELECT oid, nspacl FROM pg_catalog.pg_namespace WHERE false;
CREATE TEMPORARY TABLE relations AS SELECT oid, relowner FROM pg_catalog.pg_class WHERE false;
"""
#: An object's new owner must be allowed to create in its schema, and only its owner alters a table. So schemas are open
#: to all, and the builder owns the extensions' relations, until rows and indexes are loaded.
_OPEN = """
INSERT INTO pg_temp.schemas SELECT oid, nspacl FROM pg_catalog.pg_namespace n
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_temp.schemas s WHERE s.oid = n.oid);
UPDATE pg_catalog.pg_namespace n
SET nspacl = coalesce(s.nspacl, pg_catalog.acldefault('n', nspowner)) || pg_catalog.makeaclitem(0, nspowner, 'USAGE', false)
    || pg_catalog.makeaclitem(0, nspowner, 'CREATE', false)
FROM pg_temp.schemas s WHERE s.oid = n.oid AND n.nspacl IS NOT DISTINCT FROM s.nspacl;
INSERT INTO pg_temp.relations SELECT c.oid, relowner FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_depend d ON d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e'
WHERE relkind IN ('r', 'p', 'm', 'f', 'v', 'S') AND NOT EXISTS (SELECT FROM pg_temp.relations r WHERE r.oid = c.oid);
UPDATE pg_catalog.pg_class c SET relowner = b.oid FROM pg_temp.relations r, pg_catalog.pg_roles b
WHERE r.oid = c.oid AND b.rolname = '{builder}' AND c.relowner <> b.oid;
"""
_CLOSE = """
UPDATE pg_catalog.pg_namespace n SET nspacl = s.nspacl FROM pg_temp.schemas s WHERE s.oid = n.oid;
UPDATE pg_catalog.pg_class c SET relowner = r.relowner FROM pg_temp.relations r WHERE r.oid = c.oid;
"""


class GuardedSchema(AbstractContextManager["GuardedSchema"]):
    """Restores the schema of `archive` by the superuser's and the builder's programs."""

    def __init__(self, archive: Archive, logins: Logins, superuser: Programs, builder: Programs) -> None:
        self._archive, self._logins = archive, logins
        self._superuser, self._builder = superuser, builder
        self._before: tuple[Item, ...] = ()

    def __enter__(self) -> Self:
        self._session = self._target.connect()
        self._session.execute(_REMEMBER)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    @property
    def _target(self) -> Target:
        return self._logins.as_superuser(self._archive.name)

    def create(self) -> None:
        """Restore what comes before the rows, without the privileges."""
        self._before = self._archive.entries(self._superuser, "pre-data")
        items = [item for item in self._before if not item.is_label]
        for run in before_rows(items, self._running_code()):
            self._restore("creating the schema", run, 1)
        self._open()

    def _running_code(self) -> set[int]:
        """Dump ids of entries of _SOMETIMES that can run their owner's code."""
        found = set()
        for kind, words in _SOMETIMES.items():
            items = [item for item in self._before if item.what.startswith(kind)]
            if items and words in self._archive.text(self._superuser, items):
                found |= {i.dump_id for i in items if words in self._archive.text(self._superuser, [i])}
        return found

    def finish(self, items: Sequence[Item], jobs: int, leaves: Leaves) -> None:
        """Restore `items` of post-data, the privileges and labels; `leaves` restores entries that may be left out."""
        items = [*(item for item in self._before if item.is_label), *items]
        runs = after_rows(self._before, items)
        for run in runs:
            if run.who is not Who.BUILDER or run.items[0].is_refresh:
                self._session.execute(_CLOSE)
            self._restore("building keys and indexes", run, jobs, leaves)
        self._session.execute(_CLOSE)

    def _restore(self, doing: str, run: ItemRun, jobs: int, leaves: Leaves | None = None) -> None:
        if run.who is Who.BUILDER and not run.items[0].is_refresh:
            self._open()
        programs = self._builder if run.who is Who.BUILDER else self._superuser
        step = Step(programs, doing, jobs if run.parallel else 1, owners=run.who is not Who.OWNER)
        (leaves or self._archive).restore(step, run.items)

    def _open(self) -> None:
        self._session.execute(_OPEN.format(builder=self._logins.builder).encode())


class Who(Enum):
    """Which login restores entries."""

    SUPERUSER = "superuser"
    #: The superuser, who stays their owner, as nobody else may own them.
    OWNER = "owner"
    BUILDER = "builder"


@dataclass(frozen=True)
class ItemRun:
    """Entries for one run of pg_restore, in order."""

    who: Who
    items: tuple[Item, ...]
    #: pg_restore may use several jobs.
    parallel: bool = False


#: Can run code of an owner while it is created. This covers TABLE ATTACH too.
_BUILT = "TABLE "
#: Can do so if its SQL contains these words. Others of these kinds may need the superuser: an aggregate with an internal
#: state, a foreign table that reads a file.
_SOMETIMES = {"AGGREGATE ": b"INITCOND", "FOREIGN TABLE ": b"GENERATED"}
#: Either login can create these: they stay with the entry before them, so that fewer programs are started.
_EITHER = ("SEQUENCE ", "VIEW ", "MATERIALIZED VIEW ", "DEFAULT ")
_SUPERUSERS = ("FOREIGN DATA WRAPPER ", "PUBLICATION ", "SUBSCRIPTION ")
_GRANTS = ("ACL ", "DEFAULT ACL ")
_COMMENTS = ("COMMENT ", "SECURITY LABEL ")


def before_rows(items: Iterable[Item], built: Collection[int]) -> tuple[ItemRun, ...]:
    """Runs for pre-data, without the privileges, which come last.

    `built`: dump ids of additional entries for the builder.
    """
    runs: list[tuple[Who, list[Item]]] = []
    comments = []
    for item in items:
        if item.what.startswith(_GRANTS):
            continue
        if item.what.startswith(_COMMENTS):
            comments.append(item)
            continue
        who = _creator(item, built)
        if runs and who in {None, runs[-1][0]}:
            runs[-1][1].append(item)
        else:
            runs.append((who or Who.SUPERUSER, [item]))
    if runs and runs[-1][0] is Who.SUPERUSER:
        runs[-1][1].extend(comments)
    else:
        runs.append((Who.SUPERUSER, comments))
    return tuple(ItemRun(who, tuple(some)) for who, some in runs if some)


def _creator(item: Item, built: Collection[int]) -> Who | None:
    if item.what.startswith(_BUILT) or item.dump_id in built:
        return Who.BUILDER
    if item.what.startswith(_SUPERUSERS):
        return Who.OWNER
    return None if item.what.startswith(_EITHER) else Who.SUPERUSER


def after_rows(before: Sequence[Item], after: Sequence[Item]) -> tuple[ItemRun, ...]:
    """Runs for the rest: `after` (post-data), and the privileges in `before` (pre-data).

    The privileges come before materialized views, which their owners fill. Event triggers come last, so that none fires.
    """
    events = [item for item in after if item.is_of_event_trigger]
    after = [item for item in after if item not in events]
    grants = [item for item in (*before, *after) if item.what.startswith(_GRANTS)]
    comments = [item for item in after if item.what.startswith(_COMMENTS)]
    superusers = [item for item in after if item.what.startswith(_SUPERUSERS)]
    fills = [item for item in after if item.is_refresh]
    others = {*grants, *comments, *superusers, *fills}
    runs = (
        # In one session: the jobs of a parallel pg_restore have deadlocked here.
        ItemRun(Who.BUILDER, tuple(item for item in after if item not in others)),
        ItemRun(Who.OWNER, tuple(superusers)),
        ItemRun(Who.SUPERUSER, (*comments, *grants)),
        ItemRun(Who.BUILDER, tuple(fills), parallel=True),
        ItemRun(Who.OWNER, tuple(events)),
    )
    return tuple(run for run in runs if run.items)


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

_END = "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = %s"


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

    def end_sessions(self, database: str) -> None:
        """End the sessions in `database`: code in an artifact can keep one busy for ever."""
        with suppress(psycopg.Error, RefnetError), self.cluster.target().connect() as admin:
            admin.execute(_END, (database,))

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


def create_empty(admin: Session, name: str, index: Index, *, by_files: bool = False) -> str:
    """Create an empty database with the artifact's encoding and locale; return why the locale differs, or "".

    by_files: as for `create_database`.
    """
    state = {**index.database, "owner": None, "tablespace": None}
    note = ""
    try:
        create_database.create_database(admin, name, state, by_files=by_files)
    except RefnetError as error:
        note = f"the locale C is used instead: {error.message}"
        plain = {**state, "provider": "c", "collate": "C", "ctype": "C"}
        create_database.create_database(admin, name, plain, by_files=by_files)
    admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    return note


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
