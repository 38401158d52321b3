"""Restores a schema on a server in use, by the login of the restore: a superuser, or a member of the owners.

The owners own the objects. ALTER … OWNER TO requires that the new owner may create in the schema (for a publication: in
the database). A dump grants that later, so it is granted temporarily for the load. What only a superuser can restore is
found in the SQL of the schema, for the plan; during the load the server decides.

Some extensions, such as pg_cron, can only be created in a database of a certain name. The copy is loaded without them,
and without their tables' rows; both follow after the swap, and are compared (`after_load.py`). What else needs such an
extension cannot be restored, and ends the load.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.index_values import schema_and_name
from refnet.sources.database.artifact.member_rows import Lines, complete_lines
from refnet.sources.database.restore.left_out import Leaves
from refnet.sources.database.restore.schema_archive import Archive, Item, Step
from refnet.sources.database.server_errors import Cause, ServerError
from refnet.sources.database.sql_text import COPY, IDENT, Codec
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
            leaves.restore(Step(self._programs, "building keys and indexes", jobs), items)
        if self._grants:
            with self._session("revoking the temporary privileges of the owners") as session:
                for one in self._grants:
                    session.execute(one.statement(sql.SQL("REVOKE CREATE ON {} {} FROM {}")))
            granted = [item for item in self._before if item.what.startswith("ACL - SCHEMA ")]
            self._restore("setting the privileges on schemas", granted)

    def _restore(self, doing: str, items: Sequence[Item]) -> None:
        if items:
            self._archive.restore(Step(self._programs, doing), items)

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


_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('(?P<schema>%b)\." % IDENT)
_SCHEMAS = "SELECT nspname::text FROM pg_catalog.pg_namespace"


@dataclass
class LateExtensions:
    """Extensions that a copy lacks until it has the final name, and their entries."""

    names: set[str] = field(default_factory=set)
    #: Their schemas, which they create themselves.
    schemas: set[str] = field(default_factory=set)
    #: Their entries, and those of privileges on what is in their schemas.
    items: list[Item] = field(default_factory=list)
    #: Of all tables.
    _schemas: set[str] = field(default_factory=set)

    def refused(self, error: ServerError, index: Index) -> bool:
        """Whether `error` is about an extension that is not yet late; it then becomes late."""
        names = (one["name"] for one in index.extensions)
        if error.cause is not Cause.OTHER:  # it is not installed, or a right is missing
            return False
        new = {name for name in names if error.entry.startswith(f"EXTENSION {name} ")} - self.names
        self.names |= new
        self._schemas = {table.schema for table in index.tables}
        return bool(new)

    def without(self, items: Iterable[Item]) -> list[Item]:
        """`items` of pre-data without those of late extensions, which are kept for later."""
        begin = tuple(f"{kind} - {lead}{name} " for name in self.names for kind, lead in _OF_EXTENSION)
        others: list[Item] = []
        self.items = []
        for item in items:
            (self.items if item.what.startswith(begin) else others).append(item)
        return others

    def without_schemas(self, items: Iterable[Item], session: Session) -> list[Item]:
        """Return `items` without privileges in schemas that the extensions would have created."""
        there = {name for (name,) in session.execute(_SCHEMAS).fetchall()}
        self.schemas = self._schemas - there
        kept = []
        for item in items:
            schema = _schema_of_grant(item)
            if schema and schema not in there:
                self.schemas.add(schema)
                self.items.append(item)
            else:
                kept.append(item)
        return kept

    def has(self, table: Table) -> bool:
        return table.schema in self.schemas

    def part(self, index: Index, *, late: bool) -> Index:
        """The part of `index` loaded late, or the part loaded at once."""
        if not self.schemas:
            return index
        tables = tuple(one for one in index.tables if self.has(one) is late)
        sequences = tuple(
            one for one in index.sequences if (schema_and_name(one[0])[0] in self.schemas) is late
        )
        objects = () if late else index.large_objects
        return replace(index, tables=tables, sequences=sequences, large_objects=objects, partial=late)

    def text(self, pieces: Iterator[bytes], codec: Codec) -> Iterator[bytes]:
        """Yield a data section without the rows and sequences of the extensions."""
        lines = Lines(complete_lines(pieces))
        for statement in lines.statements():
            found = COPY.fullmatch(statement) or _SETVAL.match(statement)
            late = found is not None and codec.unquoted(found["schema"]) in self.schemas
            if not late:
                yield statement
            if found and found.re is COPY:
                for rows, _ in lines.rows():
                    if not late:
                        yield rows
                if not late:
                    yield b"\\.\n"


_OF_EXTENSION = (("EXTENSION", ""), ("COMMENT", "EXTENSION "), ("SECURITY LABEL", "EXTENSION "))


def _schema_of_grant(item: Item) -> str:
    """Schema that a privilege concerns, or contains its object; "" for other entries."""
    kind, _, rest = item.what.partition(" ")
    words = rest.split(" ")
    if kind != "ACL" or len(words) < 3:
        return ""
    return words[2] if words[:2] == ["-", "SCHEMA"] else words[0].removeprefix("-")


#: pg_restore writes a line before each entry: its name, type, schema and owner.
_HEADER = re.compile(r"^-- Name: ([^\n]*)$", re.MULTILINE)
_TABLESPACE = "; Tablespace: "
#: Only a superuser restores entries of these types.
_SUPERUSERS = {
    "ACCESS METHOD": "access method",
    "EVENT TRIGGER": "event trigger",
    "FOREIGN DATA WRAPPER": "foreign data wrapper",
    "OPERATOR CLASS": "operator class",
    "OPERATOR FAMILY": "operator family",
    "PROCEDURAL LANGUAGE": "language",
    "PUBLICATION TABLES IN SCHEMA": "publication of a schema",
    "SHELL TYPE": "base type",
    "SUBSCRIPTION": "subscription",
    "TEXT SEARCH PARSER": "text search parser",
    "TEXT SEARCH TEMPLATE": "text search template",
}
#: Or of these, where their statement matches: type → (pattern, name in the plan).
_BY_STATEMENT = {
    "ACL": (re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE), "privileges that others granted on"),
    "CAST": (re.compile(r" WITHOUT FUNCTION"), "cast without a function"),
    "PUBLICATION": (re.compile(r" FOR ALL (?:TABLES|SEQUENCES)"), "publication of everything"),
}
_FUNCTIONS = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE"})
#: Matched before a function's body.
_UNTRUSTED = re.compile(
    r"^    LANGUAGE (?:(?P<language>c|internal|plperlu|plpython3u|pltclu)\b|[^\n]*\bLEAKPROOF\b)",
    re.MULTILINE,
)
_BODY = re.compile(r"^    (?:AS |BEGIN ATOMIC|RETURN )", re.MULTILINE)


@dataclass(frozen=True)
class SchemaNeeds:
    """The requirements of a schema on the role that restores it."""

    #: Roles that own its objects.
    owners: tuple[str, ...] = ()
    #: What only a superuser restores, by kind and name.
    superuser: tuple[str, ...] = ()


def schema_needs(*sections: str) -> SchemaNeeds:
    """Requirements of the `sections` of a schema."""
    owners: dict[str, None] = {}
    superuser: dict[str, None] = {}
    for text in sections:
        for kind, name, owner, statement in _entries(text):
            if owner and owner != "-":
                owners[owner] = None
            if what := _superusers(kind, statement):
                superuser[f"{what} {name}"] = None
    return SchemaNeeds(tuple(owners), tuple(superuser))


def _entries(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield each entry of the SQL `text`: type, name, owner, statement."""
    found = list(_HEADER.finditer(text))
    for one, after in itertools.zip_longest(found, found[1:]):
        head, _, owner = one[1].rpartition("; Owner: ")
        name, _, kind = head.rpartition("; Schema: ")[0].rpartition("; Type: ")
        yield (
            kind,
            name,
            owner.partition(_TABLESPACE)[0],
            text[one.end() : after.start() if after else len(text)],
        )


def _superusers(kind: str, statement: str) -> str:
    """Kind of an entry that only a superuser can restore, else ""."""
    if kind in _FUNCTIONS:
        body = _BODY.search(statement)
        said = _UNTRUSTED.search(statement, 0, body.start() if body else len(statement))
        if said is None:
            return ""
        return f"function in {said['language']}" if said["language"] else "leakproof function"
    if kind in _BY_STATEMENT:
        pattern, what = _BY_STATEMENT[kind]
        return what if pattern.search(statement) else ""
    return _SUPERUSERS.get(kind, "")
