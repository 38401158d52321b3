"""The relations that a query reads, determined by the scratch server from the schema.

A temporary view of the query has the dependencies. Functions with a text body hide theirs: with one of these, or with
dynamic SQL, all tables are needed; `touched` names what was read in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from refnet.sources.database.admin_session import Session

#: A table, as schema and name.
Key = tuple[str, str]

_HEAD = b"CREATE TEMPORARY VIEW refnet_query AS SELECT FROM (\n"
#: Follows the rules of views, SQL bodies of functions, operators, and the partitions and children of tables.
_NEEDED = """
WITH RECURSIVE needed (catalog, oid) AS (
  SELECT 'pg_catalog.pg_class'::regclass::oid, 'pg_temp.refnet_query'::regclass::oid
UNION
  SELECT found.catalog, found.oid FROM needed CROSS JOIN LATERAL (
    SELECT refclassid, refobjid FROM pg_catalog.pg_depend d
    WHERE d.classid = needed.catalog AND d.objid = needed.oid AND needed.catalog <> 'pg_catalog.pg_class'::regclass
  UNION ALL
    SELECT 'pg_catalog.pg_rewrite'::regclass, r.oid FROM pg_catalog.pg_rewrite r
    WHERE needed.catalog = 'pg_catalog.pg_class'::regclass AND r.ev_class = needed.oid AND r.ev_type = '1'
  UNION ALL
    SELECT 'pg_catalog.pg_class'::regclass, i.inhrelid FROM pg_catalog.pg_inherits i
    WHERE needed.catalog = 'pg_catalog.pg_class'::regclass AND i.inhparent = needed.oid
  ) AS found (catalog, oid)
)
"""
_RELATIONS = """
SELECT DISTINCT c.relkind::text, n.nspname::text, c.relname::text FROM needed
JOIN pg_catalog.pg_class c ON needed.catalog = 'pg_catalog.pg_class'::regclass AND needed.oid = c.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S')
"""
_OPAQUE = """
SELECT p.oid::regprocedure::text FROM needed
JOIN pg_catalog.pg_proc p ON needed.catalog = 'pg_catalog.pg_proc'::regclass AND needed.oid = p.oid
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('internal', 'c') AND pg_catalog.to_jsonb(p) ->> 'prosqlbody' IS NULL ORDER BY 1 LIMIT 1
"""
#: The database's search path may contain operators of others.
_OWN_PATH = "SET LOCAL search_path TO pg_catalog"
#: A transaction keeps the lock of everything that it has read.
_TOUCHED = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


@dataclass(frozen=True)
class Needs:
    """The relations that a query reads, views resolved."""

    #: Relation kind of pg_class → its relations; r and p are tables, m materialized views, f foreign tables, S sequences.
    relations: dict[str, frozenset[Key]]
    #: A function that may read any table; "" if there is none.
    opaque: str = ""

    def of(self, *kinds: str) -> frozenset[Key]:
        return frozenset().union(*(self.relations.get(kind, frozenset()) for kind in kinds))


def needs(session: Session, query: bytes) -> Needs:
    """Relations that `query` reads; psycopg.Error if it is not a query or has an error."""
    session.execute("BEGIN READ WRITE")
    try:
        # In a subquery, as a view must not have two columns of one name. Binary makes it a single statement.
        session.execute(_HEAD + query + b"\n) AS query", binary=True)
        session.execute(_OWN_PATH)
        found: dict[str, set[Key]] = {}
        for kind, schema, name in session.execute((_NEEDED + _RELATIONS).encode()).fetchall():
            found.setdefault(kind, set()).add((schema, name))
        opaque = session.execute((_NEEDED + _OPAQUE).encode()).fetchone()
    finally:
        if not session.broken:
            session.execute("ROLLBACK")
    return Needs({kind: frozenset(keys) for kind, keys in found.items()}, opaque[0] if opaque else "")


def touched(session: Session) -> frozenset[Key]:
    """Return the tables that the transaction of `session` has read."""
    session.execute(_OWN_PATH)
    return frozenset((schema, name) for schema, name in session.execute(_TOUCHED).fetchall())
