"""Common part of the catalog queries: the user's relations."""

from __future__ import annotations

#: True if an extension's script made the relation `c`.
OF_EXTENSION = """EXISTS (
    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
    AND d.objsubid = 0 AND d.deptype = 'e')"""
#: True if pg_dump writes the rows of the relation `c`; of an extension's tables these are its configuration tables.
DUMPED = f"""c.relpersistence <> 't'
    AND (NOT {OF_EXTENSION} OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE c.oid = ANY (extconfig)))"""
_OF_USERS = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


def user_relations(columns: str, kinds: str, rest: str = "") -> str:
    """Query for relations (`c`) outside of the system schemas, with their schemas (`n`).

    `kinds`: letters of pg_class.relkind. `rest`: more conditions, which begin with AND, and the order.
    """
    letters = ", ".join(f"'{kind}'" for kind in kinds)
    return f"SELECT {columns} {_OF_USERS} AND c.relkind IN ({letters}) {rest}"
