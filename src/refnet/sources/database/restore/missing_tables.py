"""Creates missing tables with everything that belongs to them, in the caller's transaction.

What their definitions name may exist in the live database, be missing, or be in the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import psycopg
from psycopg import errors

from refnet.catalog.artifact import Progress
from refnet.core.errors import Exit, RefnetError
from refnet.sources.database import server_errors, sql_text
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.index_values import schema_and_name
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.artifact.table_definitions import TableDefinitions
from refnet.sources.database.dump.pgdump import refuses_lz4
from refnet.sources.database.plan.table_plan import Creation, Missing, TableNeeds
from refnet.sources.database.rows import staged_rows
from refnet.sources.database.rows.staged_rows import Recorded
from refnet.sources.database.sql_text import Codec, literal

_LZ4 = re.compile(rb" SET COMPRESSION lz4\Z")
_KEY = re.compile(rb".*?ADD CONSTRAINT .*? (FOREIGN KEY .*)", re.DOTALL)
#: What needs a tablespace or an access method, both of which are settings.
_PLACED = frozenset({What.TABLE, What.KEY, What.INDEX})
_PLACE = """
SELECT pg_catalog.set_config('default_tablespace', %s, true),
       pg_catalog.set_config('default_table_access_method', coalesce(nullif(%s, ''), 'heap'), true)
"""


#: Privileges of others than the owner; "" is PUBLIC.
_DEFAULTS = """
SELECT DISTINCT n.nspname::text, c.relname::text, c.relkind::text, coalesce(r.rolname::text, '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE c.relkind IN ('r', 'p', 'S') AND a.grantee <> c.relowner
"""


@dataclass(frozen=True)
class MissingTables:
    """The selected tables that are missing."""

    reader: Reader
    codec: Codec
    recorded: tuple[Recorded, ...]
    definitions: TableDefinitions
    live: LiveObjects
    #: What `finish` could not do, a sentence each.
    notes: list[str] = field(default_factory=list)

    def problems(self) -> tuple[RefnetError, ...]:
        """Problems that prevent their creation."""
        found = _needs(self.definitions, self.live, self.reader.index, self.codec)
        return tuple(found.problems())

    def creation(self, one: Recorded) -> Creation:
        """What is created for one table, for the plan."""
        tables = self.definitions.partitions((one.schema, one.name))
        return Creation(
            partitions=len(tables) - 1,
            objects=self.definitions.counts(tables),
            touches=tuple(self._touches(tables)),
        )

    def lost(self) -> tuple[str, ...]:
        """Sentences about what is not restored with them."""
        return _lost(self.definitions, self.live, self.codec)

    def _touches(self, tables: frozenset[Name]) -> Iterator[str]:
        """Sentences about live objects that the definitions of `tables` touch."""
        for one in (one for table in sorted(tables) for one in self.definitions.of_table.get(table, ())):
            if one.object in self.definitions.tables:
                yield from self._touched_by(one)
            elif one.what is What.FOREIGN_KEY:
                yield f"its foreign key {one.name} refers to {_text(one.object)}"
            elif one.what is What.ATTACH:
                yield f"{_text(one.table)} becomes a partition of {_text(one.object)}"
            elif one.what is What.TABLE and (parents := sql_text.inherited(one.text)):
                yield f"{_text(one.table)} inherits from {self.codec.decode(parents)}"

    def _touched_by(self, one: Definition) -> Iterator[str]:
        if one in self._returning() and (key := _KEY.fullmatch(one.text)):
            yield f"{_text(one.table)} gets its foreign key {one.name} back: {self.codec.decode(key[1])}"

    def joined(self) -> frozenset[Name]:
        """Return the live tables that are locked."""
        out = {d.object for d in self.definitions.chosen if d.what in {What.FOREIGN_KEY, What.ATTACH}}
        back = {one.table for one in self._returning()}
        return frozenset(name for name in (out | back) - self.definitions.tables if name)

    def _returning(self) -> tuple[Definition, ...]:
        return tuple(d for d in self.definitions.returning if d.table and self.live.has_table(d.table))

    def create(self, session: Session, progress: Progress) -> None:
        """Create the tables and load their rows; RefnetError if the rows differ from the artifact."""
        self._run_all(session, self.definitions.before)
        self._revoke_defaults(session)
        tables = self.reader.index.tables
        for number in sorted({number for one in self.recorded for number in one.parts}):
            if (tables[number].schema, tables[number].name) in self.definitions.tables:
                self._load(session, number, progress)
        self._set_sequences(session)

    def _revoke_defaults(self, session: Session) -> None:
        """Revoke default privileges of the live database on the new tables and sequences."""
        created = self.definitions.tables | self.definitions.sequences
        for schema, name, kind, role in self.codec.rows(session, _DEFAULTS):
            if (schema, name) in created:
                grantee = self.codec.quoted(role) if role else b"PUBLIC"
                target = (b"SEQUENCE " if kind == "S" else b"TABLE ") + self.codec.quoted(schema, name)
                session.execute(b"REVOKE ALL ON %b FROM %b" % (target, grantee))

    def finish(self, session: Session) -> None:
        """Create the entries after the rows; foreign keys of other tables last, each completely or not at all."""
        self._run_all(session, self.definitions.after)
        for one in self._returning():
            try:
                with session.transaction():
                    self._run(session, one)
            except errors.LockNotAvailable:
                raise
            except psycopg.Error as error:
                said = error.diag.message_detail or error.diag.message_primary or str(error)
                self.notes.append(f"foreign key {one.name} of {_text(one.table)} is not restored: {said}")
        for schema, name in sorted(self.definitions.tables):
            session.execute(b"ANALYZE " + self.codec.quoted(schema, name))

    def _run_all(self, session: Session, definitions: Sequence[Definition]) -> None:
        without = refuses_lz4(session, b";\n".join([*(one.text for one in definitions), b""]))
        for one in definitions:
            if not (without and _LZ4.search(one.text)):
                with _explained(one):
                    self._run(session, one)

    def _run(self, session: Session, one: Definition) -> None:
        """Run one statement; `binary` selects the protocol that rejects a second statement."""
        if one.what in _PLACED:
            self.codec.rows(session, _PLACE, (one.tablespace, one.access_method))
        if one.grantor:
            session.execute(b"SET LOCAL ROLE " + self.codec.quoted(one.grantor))
        session.execute(one.text, binary=True)
        if one.grantor:
            session.execute("SET LOCAL ROLE NONE")

    def _load(self, session: Session, number: int, progress: Progress) -> None:
        """Load the rows of one table and compare them with what the artifact recorded."""
        table = self.reader.index.tables[number]
        name = self.codec.quoted(table.schema, table.name)
        one = Recorded(table.schema, table.name, (number,))
        expected = staged_rows.copy_rows(session, self.reader, one, name, progress)
        found = staged_rows.digest_of(
            session, self.codec, table.columns, name if table.root else b"ONLY " + name
        )
        if (found.rows, found.hex) != (table.rows, table.digest or expected.hex):
            raise _differs(table)

    def _set_sequences(self, session: Session) -> None:
        for name, value, called in self.reader.index.sequences:
            if schema_and_name(name) in self.definitions.sequences:
                quoted = self.codec.quoted(*schema_and_name(name))
                session.execute(
                    b"SELECT pg_catalog.setval(%b::regclass, %d, %b)"
                    % (literal(quoted), value, b"true" if called else b"false")
                )


@contextmanager
def _explained(one: Definition) -> Iterator[None]:
    """Turn the server's error about a statement into a RefnetError; lock errors are left to the caller."""
    try:
        yield
    except errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        what = f"creating {one.what} {one.name or _text(one.table or one.object)}"
        raise server_errors.of_server(error, what) from error


def _differs(table: Table) -> RefnetError:
    return RefnetError(
        f"the rows of {table.qualified} differ from those of the artifact after they were loaded",
        "Nothing was changed. Check the artifact with `refnet verify`.",
        Exit.DAMAGED,
    )


#: Kind, schema, name. Relations have the letter of pg_class.relkind, other objects "-".
_OBJECTS = """
SELECT x.kind::text, n.nspname::text, x.name::text FROM (
    SELECT relkind::text AS kind, relnamespace AS space, relname AS name FROM pg_class
    UNION ALL SELECT '-', typnamespace, typname FROM pg_type WHERE typrelid = 0 OR typtype <> 'c'
    UNION ALL SELECT '-', pronamespace, proname FROM pg_proc
    UNION ALL SELECT '-', collnamespace, collname FROM pg_collation
    UNION ALL SELECT '-', opcnamespace, opcname FROM pg_opclass
    UNION ALL SELECT '-', opfnamespace, opfname FROM pg_opfamily
    UNION ALL SELECT '-', cfgnamespace, cfgname FROM pg_ts_config
    UNION ALL SELECT '-', dictnamespace, dictname FROM pg_ts_dict
) x JOIN pg_namespace n ON n.oid = x.space WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_NAMES = """
SELECT 'schema', nspname::text FROM pg_namespace UNION ALL SELECT 'tablespace', spcname::text FROM pg_tablespace
UNION ALL SELECT 'extension', extname::text FROM pg_extension UNION ALL SELECT 'role', rolname::text FROM pg_roles
UNION ALL SELECT 'owner', rolname::text FROM pg_roles WHERE pg_has_role(oid, 'USAGE')
UNION ALL SELECT 'user', current_user::text
UNION ALL SELECT 'superuser', rolname::text FROM pg_roles WHERE rolname = current_user AND rolsuper
"""
_KINDS = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "type",
}
_TABLES = frozenset({"r", "p"})


@dataclass(frozen=True)
class LiveObjects:
    """Everything that exists in the live database, outside of the system's schemas."""

    #: Relation → pg_class.relkind.
    relations: Mapping[Name, str]
    #: Types, functions, collations …
    others: frozenset[Name]
    #: schema, tablespace, extension, role, owner (whose rights the login has), user, superuser → names.
    names: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, session: Session, codec: Codec) -> LiveObjects:
        rows = codec.rows(session, _OBJECTS)
        names: dict[str, set[str]] = {}
        for kind, name in codec.rows(session, _NAMES):
            names.setdefault(kind, set()).add(name)
        return cls(
            {(schema, name): kind for kind, schema, name in rows if kind != "-"},
            frozenset((schema, name) for kind, schema, name in rows if kind == "-"),
            {kind: frozenset(found) for kind, found in names.items()},
        )

    def has_table(self, name: Name) -> bool:
        return self.relations.get(name) in _TABLES

    def has(self, name: Name) -> bool:
        return name in self.relations or name in self.others

    @cached_property
    def user(self) -> str:
        return next(iter(self.names["user"]))

    @property
    def superuser(self) -> bool:
        return "superuser" in self.names

    def without(self, kind: str, wanted: Iterable[str]) -> tuple[str, ...]:
        """Names in `wanted` that do not exist."""
        return tuple(sorted(set(wanted) - self.names.get(kind, frozenset())))


def _needs(tables: TableDefinitions, live: LiveObjects, index: Index, codec: Codec) -> TableNeeds:
    """Objects that the definitions of `tables` need and the database lacks, and objects with their names."""
    defined = {one.table for one in tables.of(What.TABLE)}
    schemas = {schema for schema, _ in tables.tables} - tables.schemas
    roles = live.without("role", tables.roles())
    return TableNeeds(
        undefined=tuple(sorted(map(_text, tables.tables - defined))),
        taken=tuple(
            (".".join(name), _KINDS.get(live.relations[name], "relation"))
            for name in sorted(tables.tables | tables.relations)
            if name in live.relations
        ),
        schemas=live.without("schema", schemas),
        objects=tuple(
            Missing(one.what.value, ".".join(name), codec.decode(one.text))
            for name, one in tables.needed(codec).items()
            if not live.has(name)
        ),
        extensions=_extensions(tables, live, index, codec),
        roles=roles,
        owners=() if live.superuser else live.without("owner", tables.owners() - {*roles}),
        user=live.user,
        tablespaces=live.without("tablespace", tables.tablespaces()),
        unknown=tuple(" ".join(codec.decode(one.text).split()) for one in tables.of(What.UNKNOWN)),
    )


def _extensions(
    tables: TableDefinitions, live: LiveObjects, index: Index, codec: Codec
) -> tuple[tuple[str, str], ...]:
    """Missing extensions whose schema has a needed object that nothing else creates."""
    created = {name for one in tables.all for name in (one.table, one.object) if name}
    unknown = {
        name[0] for name in tables.named(codec) if not live.has(name) and name not in created | tables.tables
    }
    missing = live.without("extension", (one["name"] for one in index.extensions))
    return tuple(
        (one["name"], one["schema"])
        for one in index.extensions
        if one["name"] in missing and one["schema"] in unknown
    )


def _lost(tables: TableDefinitions, live: LiveObjects, codec: Codec) -> tuple[str, ...]:
    """Sentences about objects that depended on the tables and are not restored with them."""
    return (
        *(
            f"{one.what} {_text(one.object)} depended on them, and is missing: create it again"
            for one in tables.dependents(codec)
            if one.object and not live.has(one.object)
        ),
        *(
            f"publication {one.name} contained {_text(one.table)}: ALTER PUBLICATION {one.name} ADD TABLE {_text(one.table)}"
            for one in tables.of(What.PUBLICATION)
        ),
        *(f"a security label of {_text(one.table)} is not restored" for one in tables.of(What.LABEL)),
        *(
            f"foreign key {one.name} of {_text(one.table)} is not restored: that table does not exist"
            for one in tables.returning
            if one.table and not live.has_table(one.table)
        ),
        *(
            f"{_text(one.table)} was a partition of {_text(one.object)}; it exists, and stays as it is"
            for one in tables.all
            if one.what is What.ATTACH and one.object in tables.tables and one.table not in tables.tables
        ),
    )


def _text(name: Name | None) -> str:
    return ".".join(name or ())
