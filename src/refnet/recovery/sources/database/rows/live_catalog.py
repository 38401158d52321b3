"""What a database holds by its own catalog: every name that a comparison puts into a statement comes from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.recovery.sources.database.sql_names import Codec

Session = psycopg.Connection[tuple[Any, ...]]
Name = tuple[str, str]

#: A comparison only reads, whatever a statement says.
SETTINGS: Mapping[str, str] = {**READER_SETTINGS, "default_transaction_read_only": "on"}

_RELATIONS = """
SELECT n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int8 ELSE 0 END,
       c.oid::int8, coalesce(pg_partition_root(c.oid), c.oid)::int8,
       EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objsubid = 0 AND e.deptype = 'e'
               AND (e.objid = c.oid OR e.objid IN (
                   SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S'))),
       ARRAY(SELECT attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0
             AND NOT attisdropped AND attgenerated = '' ORDER BY attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


@dataclass(frozen=True)
class Relation:
    """A table or a sequence. `pages`: of an ordinary table. `root`: the oid of the top of its partitions, or its own.

    `owned`: it, or the table that the sequence is of, belongs to an extension. `columns`: those that are not generated.
    """

    schema: str
    name: str
    kind: str
    pages: int
    oid: int
    root: int
    owned: bool
    columns: tuple[str, ...]

    @property
    def qualified(self) -> str:
        """`schema.name`, for people."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Standing:
    """The tables and sequences of a database outside of the system's schemas, by schema and name."""

    tables: Mapping[Name, Relation]
    sequences: Mapping[Name, Relation]


@contextmanager
def reading(target: Target) -> Iterator[tuple[Session, str, Codec]]:
    """A session that reads the database `target` in its own encoding, with that encoding's name and its codec."""
    with target.connect(SETTINGS) as session:
        row = session.execute("SELECT current_setting('server_encoding')").fetchone()
        assert row is not None  # noqa: S101  # for the type checker
        encoding = row[0].decode() if isinstance(row[0], bytes) else str(row[0])
        session.execute("SELECT set_config('client_encoding', %s, false)", (encoding,))
        yield session, encoding, Codec.of(session, encoding)


def read(session: Session, codec: Codec) -> Standing:
    """What stands in the database of `session`."""
    tables: dict[Name, Relation] = {}
    sequences: dict[Name, Relation] = {}
    for schema, name, kind, pages, oid, root, owned, columns in session.execute(_RELATIONS).fetchall():
        names = tuple(codec.decode(column) for column in columns)
        one = Relation(
            codec.decode(schema), codec.decode(name), codec.decode(kind), pages, oid, root, owned, names
        )
        into = sequences if one.kind == "S" else tables
        into[one.schema, one.name] = one
    return Standing(tables, sequences)
