"""Reads which objects named by definitions of missing tables exist in the live database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.definitions import Definition, Name, What
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.table_definitions import TableDefinitions
from refnet.sources.database.plan.table_needs import Missing, TableNeeds
from refnet.sources.database.sql_text import Codec

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


def needs(tables: TableDefinitions, live: LiveObjects, index: Index, codec: Codec) -> TableNeeds:
    """Objects that the definitions of `tables` need and the database lacks, and objects with their names."""
    defined = {one.table for one in tables.of(What.TABLE)}
    schemas = {schema for schema, _ in tables.tables} - tables.schemas
    roles = live.without("role", tables.roles())
    return TableNeeds(
        undefined=_texts(tables.tables - defined),
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


def lost(tables: TableDefinitions, live: LiveObjects, codec: Codec) -> tuple[str, ...]:
    """Sentences about objects that depended on the tables and are not restored with them."""
    return (
        *(_dependent(one) for one in tables.dependents(codec) if one.object and not live.has(one.object)),
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


def _dependent(one: Definition) -> str:
    return f"{one.what} {_text(one.object)} depended on them, and is missing: create it again"


def _text(name: Name | None) -> str:
    return ".".join(name or ())


def _texts(names: Collection[Name]) -> tuple[str, ...]:
    return tuple(sorted(map(_text, names)))
