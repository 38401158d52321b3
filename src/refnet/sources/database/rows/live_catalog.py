"""Tables and sequences from the database's catalog, the only source of names in a comparison's statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.admin_session import Session
from refnet.sources.database.catalog_queries import user_relations
from refnet.sources.database.sql_names import Codec

Name = tuple[str, str]

#: A comparison only reads, whatever a statement says.
SETTINGS: Mapping[str, str] = {**READER_SETTINGS, "default_transaction_read_only": "on"}

_RELATIONS = user_relations(
    """
    n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END,
       c.oid::int8, coalesce(pg_partition_root(c.oid), c.oid)::int8,
       EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objsubid = 0 AND e.deptype = 'e'
               AND (e.objid = c.oid OR e.objid IN (
                   SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S'))),
       ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = '' ORDER BY attnum),
       ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = 's' ORDER BY attnum),
       c.relpersistence = 'u'""",
    "rpS",
    "AND c.relpersistence <> 't'",
)


@dataclass(frozen=True)
class Relation:
    """A table or a sequence."""

    schema: str
    name: str
    #: pg_class.relkind: r, p or S.
    kind: str
    #: Of an ordinary table, else 0.
    pages: int
    oid: int
    #: The oid of the top of its partitions, or its own.
    root: int
    #: It, or the table that the sequence belongs to, is part of an extension.
    owned: bool
    #: Without generated columns.
    columns: list[str]
    #: The stored generated ones.
    generated: list[str]
    unlogged: bool = False

    @property
    def qualified(self) -> str:
        """`schema.name`, for display."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Relations:
    """The tables and sequences of a database outside of the system's schemas, by schema and name."""

    tables: Mapping[Name, Relation]
    sequences: Mapping[Name, Relation]


@contextmanager
def reading(target: Target) -> Iterator[tuple[Session, str, Codec]]:
    """Open a session that reads `target` in the database's own encoding; yield it, the encoding's name and codec."""
    with target.connect(SETTINGS) as session:
        codec, encoding = Codec.of_server(session)
        yield session, encoding, codec


def read(session: Session, codec: Codec) -> Relations:
    """Read the relations of the session's database."""
    tables: dict[Name, Relation] = {}
    sequences: dict[Name, Relation] = {}
    for row in codec.rows(session, _RELATIONS):
        one = Relation(*row)
        into = sequences if one.kind == "S" else tables
        into[one.schema, one.name] = one
    return Relations(tables, sequences)
