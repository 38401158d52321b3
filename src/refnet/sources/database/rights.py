"""Finds the rights that a role lacks for reading a database or for restoring rows into it, and the SQL that grants them.

pg_dump stops at the first unreadable object, and a restore of rows is one transaction, so everything is checked before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, some
from refnet.postgres.session import Target, server_version
from refnet.sources.database.admin_session import Session
from refnet.sources.database.rows.live_catalog import DUMPED, user_relations
from refnet.sources.database.rows.table_layout import TableLayout
from refnet.sources.database.sql_text import Codec, literal
from refnet.sources.restore_options import Mode

#: So many objects of a kind are named.
_NAMED = 10
#: The last: rights of a role that is granted to it are in force without SET ROLE.
_ROLE = """
SELECT quote_ident(current_user), rolsuper, rolinherit AND NOT pg_has_role('pg_read_all_data', 'MEMBER')
FROM pg_roles WHERE rolname = current_user
"""
_SCHEMAS = user_relations(
    "DISTINCT quote_ident(n.nspname)",
    "rpS",
    f"AND {DUMPED} AND NOT has_schema_privilege(n.oid, 'USAGE') ORDER BY 1",
)
_UNREADABLE_RELATIONS = user_relations(
    "c.oid::regclass::text, c.relkind = 'S'",
    "rpS",
    f"AND {DUMPED} AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY n.nspname, c.relname",
)
_HIDDEN_ROWS = user_relations(
    "c.oid::regclass::text",
    "r",
    f"AND {DUMPED} AND c.relrowsecurity AND row_security_active(c.oid) ORDER BY n.nspname, c.relname",
)
_LARGE_OBJECTS = """
SELECT oid::text, (count(*) OVER ())::int FROM pg_largeobject_metadata
WHERE NOT {readable} ORDER BY pg_largeobject_metadata.oid LIMIT %s
"""
_READABLE_18 = "has_largeobject_privilege(oid, 'SELECT')"
_READABLE_BEFORE = """(current_setting('lo_compat_privileges')::bool OR EXISTS (
    SELECT FROM aclexplode(coalesce(lomacl, acldefault('L', lomowner))) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE'))))"""


@dataclass(frozen=True)
class _Unreadable:
    """The objects that a role may not read; their names are quoted for SQL."""

    schemas: tuple[str, ...]
    tables: tuple[str, ...]
    sequences: tuple[str, ...]
    #: Tables with rows that row-level security may hide.
    hidden_rows: tuple[str, ...] = ()
    #: The oids of the first large objects.
    large_objects: tuple[str, ...] = ()
    #: The number of all of them.
    large_object_count: int = 0

    def named(self, major: int) -> Iterator[str]:
        """Yield each kind with its objects, on a server of `major`."""
        kinds = {"schema": self.schemas, "table": self.tables, "sequence": self.sequences}
        for kind, names in kinds.items():
            if names:
                yield f"{kind}{'s' if len(names) > 1 else ''} {some(names, _NAMED)}"
        if self.hidden_rows:
            yield f"rows that row-level security hides in {some(self.hidden_rows, _NAMED)}"
        if self.large_objects:
            others = ", …" if self.large_object_count > _NAMED else ""
            yield (
                f"{plural(self.large_object_count, 'large object')} ({', '.join(self.large_objects)}{others})"
                + (f", which pg_read_all_data does not cover in PostgreSQL {major}" if major < 19 else "")
            )

    def remedies(self, role: str, major: int, *, inherits: bool) -> Iterator[str]:
        """Yield the statements that let `role` read them."""
        if self.schemas or self.tables or self.sequences or (self.large_objects and major >= 19):
            yield f"GRANT pg_read_all_data TO {role}" + (
                " WITH INHERIT TRUE" if major >= 16 and not inherits else ""
            )
            if major < 16 and not inherits:
                yield f"ALTER ROLE {role} INHERIT"
        if self.hidden_rows:
            yield f"ALTER ROLE {role} BYPASSRLS"
        if self.large_objects and major < 19:
            if self.large_object_count <= _NAMED:
                yield f"GRANT SELECT ON LARGE OBJECT {', '.join(self.large_objects)} TO {role}"
            else:
                grantee = role.replace("'", "''").replace("%", "%%")
                grant = f"format('GRANT SELECT ON LARGE OBJECT %s TO {grantee}', oid)"
                yield f"SELECT {grant} FROM pg_largeobject_metadata \\gexec"  # noqa: S608  # shown, not run


def check_readable(
    session: psycopg.Connection[tuple[Any, ...]], target: Target, codec: Codec, *, entire: bool
) -> None:
    """Raise RefnetError with the needed grants if the role of `session` may not read the database `target`.

    `entire`: check sequences, large objects and row-level security too, not only the tables that are locked.
    """
    ((role, superuser, inherits),) = codec.rows(session, _ROLE)
    if superuser:
        return
    major = server_version(session)
    found = _unreadable(session, codec, major, entire=entire)
    if named := "; ".join(found.named(major)):
        raise RefnetError(
            f"the role {role} may not read all of {target.display}: {named}",
            f"Run with psql in {target.name} as a superuser: "
            + "; ".join(found.remedies(role, major, inherits=inherits)),
        )


def _unreadable(
    session: psycopg.Connection[tuple[Any, ...]], codec: Codec, major: int, *, entire: bool
) -> _Unreadable:
    schemas = tuple(row[0] for row in codec.rows(session, _SCHEMAS))
    relations = codec.rows(session, _UNREADABLE_RELATIONS)
    tables = tuple(name for name, is_sequence in relations if not is_sequence)
    if not entire:
        return _Unreadable(schemas, tables, ())
    readable = _READABLE_18 if major >= 18 else _READABLE_BEFORE
    large = codec.rows(session, _LARGE_OBJECTS.format(readable=readable), (_NAMED,))
    return _Unreadable(
        schemas,
        tables,
        tuple(name for name, is_sequence in relations if is_sequence),
        tuple(row[0] for row in codec.rows(session, _HIDDEN_ROWS)),
        tuple(oid for oid, _ in large),
        large[0][1] if large else 0,
    )


#: The locks of a restore need one of these rights.
_TO_LOCK = b"UPDATE, DELETE, TRUNCATE"


def check_writable(session: Session, codec: Codec, layouts: Sequence[TableLayout], mode: Mode) -> None:
    """Raise RefnetError with the needed grants if the role of `session` may not restore rows into `layouts`."""
    missing = [
        (name, grant)
        for name, grant, rights in _needed(layouts, mode)
        if codec.rows(session, _question(name, rights)) != [(True,)]
    ]
    if missing:
        ((role, database),) = codec.rows(
            session, "SELECT quote_ident(current_user), current_database()::text"
        )
        names = ", ".join(codec.decode(name) for name, _ in missing)
        grants = "; ".join(f"GRANT {grant} {codec.decode(name)} TO {role}" for name, grant in missing)
        raise RefnetError(
            f"the role {role} may not restore rows in {database}: rights are missing on {names}",
            f"{grants}; or restore as the owner of the tables.",
        )


def _needed(layouts: Sequence[TableLayout], mode: Mode) -> Iterator[tuple[bytes, str, tuple[bytes, ...]]]:
    """Yield tables and sequences, the rights to grant, and the rights to check."""
    written = {layout.name for layout in layouts}
    write = {Mode.MERGE: "UPDATE"}.get(mode, "DELETE")
    to_write = _TO_LOCK if mode is Mode.MISSING else write.encode()
    for name in sorted(written):
        yield name, f"SELECT, INSERT, {write} ON", (b"SELECT", b"INSERT", to_write)
    joined = {table for one in layouts for key in one.foreign for table in (key.referring, key.other)}
    for name in sorted({table.removeprefix(b"ONLY ") for table in joined} - written):
        yield name, "SELECT, UPDATE ON", (_TO_LOCK,)
    for name in sorted({sequence.name for layout in layouts for sequence in layout.sequences}):
        yield name, "SELECT, UPDATE ON SEQUENCE", (b"SELECT", b"UPDATE")


def _question(name: bytes, rights: Sequence[bytes]) -> bytes:
    """Return the query whose answer is true if the role has each of the `rights`."""
    each = (b"pg_catalog.has_table_privilege(%b::regclass, '%b')" % (literal(name), one) for one in rights)
    return b"SELECT " + b" AND ".join(each)
