"""What a database has and pg_dump leaves out without a word: it is named, as nothing else would miss it."""

from __future__ import annotations

from typing import Any

from refnet.core.formatting import some
from refnet.sources.database.dump import metadata
from refnet.sources.database.dump.snapshot import OpenSnapshot
from refnet.sources.database.rows.live_catalog import DUMPED, user_relations

_UNLOGGED = """
SELECT oid::regclass::text FROM pg_class
WHERE relpersistence = 'u' AND relkind IN ('r', 'S') AND oid >= 16384 AND pg_is_in_recovery() ORDER BY 1
"""
_SUBSCRIPTIONS = """
SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid
WHERE datname = current_database() AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) ORDER BY 1
"""
#: pg_dump reads a view, which hides the options from other roles. Who may read the table sees whether there are any.
_MAPPINGS = """
SELECT concat(v.usename, ' on ', v.srvname) FROM pg_user_mappings v {}
WHERE v.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) ORDER BY 1
"""
_WITH_OPTIONS = "JOIN pg_user_mapping m ON m.oid = v.umid AND m.umoptions IS NOT NULL"
_MAY_READ_MAPPINGS = "SELECT has_table_privilege('pg_user_mapping', 'SELECT')"
_OF_EXTENSIONS = user_relations(
    "c.oid::regclass::text",
    "r",
    f"AND NOT ({DUMPED}) AND c.relpersistence <> 't' AND pg_relation_size(c.oid) > 0 ORDER BY 1",
)
#: information_schema may have been created anew; then its own objects have high oids too.
_AMONG_THE_SYSTEMS = """
SELECT concat(n.nspname, '.', o.name) FROM (
    SELECT 'pg_class'::regclass AS catalog, oid, relnamespace AS schema, relname AS name
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proname FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typname FROM pg_type WHERE typtype IN ('e', 'd', 'r')
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace, oprname FROM pg_operator
) o JOIN pg_namespace n ON n.oid = o.schema
WHERE o.oid >= 16384 AND (n.nspname = 'pg_catalog' OR n.nspname = 'information_schema' AND n.oid < 16384)
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = o.catalog AND d.objid = o.oid AND d.objsubid = 0 AND d.deptype = 'e')
ORDER BY 1
"""
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1"
_INVALID = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready) AND c.relkind = 'i' ORDER BY 1
"""
_OFF = """
SELECT DISTINCT concat(k.conname, ' of ', k.conrelid::regclass) FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint
WHERE t.tgisinternal AND t.tgenabled <> 'O' AND k.contype = 'f' ORDER BY 1
"""
#: Parameter: the oids of roles.
_LABELS = """
SELECT DISTINCT concat('role ', pg_get_userbyid(objoid)) FROM pg_shseclabel
WHERE classoid = 'pg_authid'::regclass AND objoid = ANY (%s::oid[])
UNION SELECT concat('database ', datname) FROM pg_shseclabel JOIN pg_database d ON d.oid = objoid
WHERE classoid = 'pg_database'::regclass AND datname = current_database() ORDER BY 1
"""


def not_dumped(snapshot: OpenSnapshot) -> tuple[str, ...]:
    """Sentences about what an artifact of the database in `snapshot` does not contain, or what a restore changes."""
    mappings = _MAPPINGS.format(_WITH_OPTIONS if snapshot.rows(_MAY_READ_MAPPINGS)[0][0] else "")
    roles = [row[0] for row in snapshot.rows(metadata.ROLES, False)]
    said: dict[str, tuple[Any, ...]] = {
        "the content of unlogged tables and sequences is not in the backup, as a standby has none": (
            _UNLOGGED,
        ),
        "subscriptions are not in the backup, as only a superuser may read them": (_SUBSCRIPTIONS,),
        "the options of user mappings are not in the backup, as only a superuser may read them": (mappings,),
        "the rows of tables of extensions are not in the backup, as pg_dump leaves them out": (
            _OF_EXTENSIONS,
        ),
        "what users made in the system's schemas is not in the backup, as pg_dump leaves it out": (
            _AMONG_THE_SYSTEMS,
        ),
        "prepared transactions are not in the backup until they are committed": (_PREPARED,),
        "invalid indexes are not in the backup": (_INVALID,),
        "foreign keys that are not checked now, as their triggers are off, are checked after a restore": (
            _OFF,
        ),
        "security labels are not kept": (_LABELS, roles),
    }
    found = ((what, snapshot.rows(*query)) for what, query in said.items())
    (foreign,) = snapshot.rows("SELECT count(*) FROM pg_foreign_table")[0]
    return (
        *(f"{what}: {some([name for (name,) in rows])}" for what, rows in found if rows),
        *([f"the rows of {foreign} foreign tables live on other servers"] if foreign else []),
    )
