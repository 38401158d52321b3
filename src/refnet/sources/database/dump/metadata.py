"""Facts about a database that pg_dump omits: its settings, roles and extensions.

Also the sizes and digests of its large objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import psycopg
from xxhash import xxh3_128

from refnet.sources.database.artifact.index_values import POWERS
from refnet.sources.database.dump.snapshot import OpenSnapshot

#: How much of a large object is read with others, of how many at once, and how much of a longer one by itself.
_LO_FIRST, _AT_ONCE, _LO_PIECE = 128 << 10, 32, 4 << 20
_LARGE_OBJECTS = """
SELECT oid::int8, lo_get(oid, 0, 131072) FROM (SELECT oid FROM pg_largeobject_metadata ORDER BY oid OFFSET 0) AS o
"""

_DATABASE = """
SELECT d.datname::text, pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text,
       d.datcollate::text, d.datctype::text, t.spcname::text, d.datconnlimit,
       shobj_description(d.oid, 'pg_database'),
       coalesce(d.datacl @> acldefault('d', d.datdba) AND d.datacl <@ acldefault('d', d.datdba), true),
       d.datistemplate, {provider}, {locale}, {rules}
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()
"""
_PUBLIC = "SELECT 1 FROM pg_namespace WHERE nspname = 'public'"
#: In the order of the grants: a role that grants what was granted to it comes later.
_ACL = """
SELECT pg_get_userbyid(a.grantor)::text,
       CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type::text, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) WITH ORDINALITY a WHERE d.datname = current_database() ORDER BY a.ordinality
"""
_SETTINGS = """
SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole)::text END, c::text
FROM pg_db_role_setting s, unnest(s.setconfig) c
WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1 NULLS FIRST, 2
"""
#: Parameter: whether to include the first superuser of the cluster.
ROLES = """
WITH RECURSIVE here AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
needed AS (
    SELECT refobjid AS oid FROM pg_shdepend, here
    WHERE refclassid = 'pg_authid'::regclass
      AND (dbid = here.oid OR (dbid = 0 AND classid = 'pg_database'::regclass AND objid = here.oid))
    UNION SELECT datdba FROM here
    UNION SELECT setrole FROM pg_db_role_setting s, here WHERE s.setdatabase = here.oid AND setrole <> 0
    UNION SELECT 10 WHERE %s)
SELECT r.oid::int8, r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
       r.rolreplication, r.rolbypassrls, r.rolconnlimit,
       r.rolvaliduntil::text, shobj_description(r.oid, 'pg_authid'),
       (SELECT coalesce(array_agg(c ORDER BY c), '{}') FROM unnest(r.rolconfig) c)
FROM pg_roles r JOIN needed USING (oid) WHERE r.rolname !~ '^pg_' ORDER BY r.rolname
"""
_MEMBERSHIPS = """
SELECT member::int8, pg_get_userbyid(roleid)::text, bool_or(admin_option){} FROM pg_auth_members
WHERE member = ANY (%s::oid[]) GROUP BY 1, 2 ORDER BY 1, 2
"""
_MEMBERSHIP = ("role", "admin", "inherit", "set")
_PARAMETER = ("name", "privilege", "grantable")
#: Since 16.
_OPTIONS = ", bool_or(inherit_option), bool_or(set_option)"
#: Since 15.
_PARAMETERS = """
SELECT a.grantee::int8, p.parname::text, a.privilege_type::text, bool_or(a.is_grantable)
FROM pg_parameter_acl p, aclexplode(p.paracl) a WHERE a.grantee = ANY (%s::oid[]) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_TABLESPACES = """
SELECT DISTINCT t.spcname::text FROM pg_tablespace t
WHERE t.oid IN (SELECT reltablespace FROM pg_class) AND t.spcname <> 'pg_global'
   OR t.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AND t.spcname <> 'pg_default'
ORDER BY 1
"""
_EXTENSIONS = """
SELECT extname::text, extversion::text, nspname::text FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname <> 'plpgsql' ORDER BY 1
"""


class CatalogQueries(Protocol):
    """A database that answers catalog queries, in an open snapshot or not."""

    @property
    def major(self) -> int: ...

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]: ...


#: The materialized views that read foreign tables, also through views, materialized views and partitioned tables.
_FOREIGN_VIEWS = """
WITH RECURSIVE above(below, oid) AS (
    SELECT d.refobjid, r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    UNION SELECT inhrelid, inhparent FROM pg_inherits
), foreign_reading AS (
    SELECT oid FROM pg_class WHERE relkind = 'f'
    UNION SELECT a.oid FROM above a JOIN foreign_reading f ON f.oid = a.below)
SELECT c.oid::int8, n.nspname::text, c.relname::text FROM foreign_reading
JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 2, 3
"""


def database(catalog: CatalogQueries) -> dict[str, Any]:
    """The database's own state: owner, encoding, locale, tablespace, limit, comment, privileges, settings.

    `template` and `without_public` (it lacks the schema that every new database has) are there only if they are true.
    """
    provider = "datlocprovider::text" if catalog.major >= 15 else "'c'"
    locale = (
        "datlocale::text"
        if catalog.major >= 17
        else "daticulocale::text"
        if catalog.major >= 15
        else "NULL::text"
    )
    rules = "daticurules::text" if catalog.major >= 16 else "NULL::text"
    query = _DATABASE.format(provider=provider, locale=locale, rules=rules)
    name, owner, encoding, collate, ctype, tablespace, limit, comment, default_acl, template, *icu = (
        catalog.rows(query)[0]
    )
    acl = [
        dict(zip(("grantor", "grantee", "privilege", "grantable"), row, strict=True))
        for row in catalog.rows(_ACL)
    ]
    return {
        "name": name,
        "owner": owner,
        "encoding": encoding,
        "provider": icu[0],
        "collate": collate,
        "ctype": ctype,
        "locale": icu[1],
        "icu_rules": icu[2],
        "tablespace": tablespace,
        "connection_limit": limit,
        "comment": comment,
        "acl": None if default_acl else acl,
        "settings": [{"role": role, "setting": setting} for role, setting in catalog.rows(_SETTINGS)],
        **({"template": True} if template else {}),
        **({} if catalog.rows(_PUBLIC) else {"without_public": True}),
    }


def roles(snapshot: OpenSnapshot, *, bootstrap: bool) -> tuple[dict[str, Any], ...]:
    """Roles that the database depends on, without passwords.

    `bootstrap`: include the cluster's first superuser; the server records no dependency on it.
    """
    fields = (*POWERS, "connection_limit", "valid_until", "comment", "settings")
    rows = snapshot.rows(ROLES, bootstrap)
    oids = [row[0] for row in rows]
    member_of: dict[int, list[dict[str, Any]]] = {}
    for member, *one in snapshot.rows(_MEMBERSHIPS.format(_OPTIONS if snapshot.major >= 16 else ""), oids):
        member_of.setdefault(member, []).append(dict(zip(_MEMBERSHIP, one, strict=False)))
    parameters: dict[int, list[dict[str, Any]]] = {}
    for grantee, *one in snapshot.rows(_PARAMETERS, oids) if snapshot.major >= 15 else ():
        parameters.setdefault(grantee, []).append(dict(zip(_PARAMETER, one, strict=True)))
    return tuple(
        {
            "name": name,
            **dict(zip(fields, values, strict=True)),
            "member_of": member_of.get(oid, []),
            "parameters": parameters.get(oid, []),
        }
        for oid, name, *values in rows
    )


def bootstrap_superuser(snapshot: OpenSnapshot) -> str:
    """Return the name of the cluster's first superuser."""
    return str(snapshot.rows("SELECT rolname::text FROM pg_roles WHERE oid = 10")[0][0])


def tablespaces(snapshot: OpenSnapshot) -> tuple[str, ...]:
    return tuple(row[0] for row in snapshot.rows(_TABLESPACES))


def foreign_views(snapshot: OpenSnapshot) -> tuple[tuple[int, str], ...]:
    """Return the materialized views whose REFRESH reads foreign tables: oid, name."""
    return tuple((oid, f"{schema}.{name}") for oid, schema, name in snapshot.rows(_FOREIGN_VIEWS))


def extensions(snapshot: OpenSnapshot) -> tuple[dict[str, Any], ...]:
    return tuple({"name": n, "version": v, "schema": s} for n, v, s in snapshot.rows(_EXTENSIONS))


def server(snapshot: OpenSnapshot) -> dict[str, Any]:
    """Return version_num, version, system_identifier (None if this user may not see it), snapshot and timezone of the server.

    Rows that are written later on the same server can be counted by the snapshot's text. The time zone is that of a session
    that sets none.
    """
    number, text, moment = snapshot.rows(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " pg_current_snapshot()::text"
    )[0]
    may = snapshot.rows("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")[0][0]
    identifier = (
        snapshot.rows("SELECT system_identifier::text FROM pg_control_system()")[0][0] if may else None
    )
    settings = {name: value for name, value in snapshot.reader_settings.items() if name != "timezone"}
    with snapshot.target.connect(settings, encoding="UTF8") as session:
        ((zone,),) = session.execute("SELECT current_setting('timezone')").fetchall()
    return {
        "version_num": number,
        "version": text,
        "system_identifier": identifier,
        "snapshot": moment,
        "timezone": zone,
    }


def large_objects(connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[tuple[int, int, str]]:
    """Yield each large object that `connection` sees: oid, bytes, digest (XXH3, 128 bits) of its content."""
    with connection.transaction(), connection.cursor("large_objects") as found:
        found.itersize = _AT_ONCE
        found.execute(_LARGE_OBJECTS, binary=True)
        for oid, content in found:
            digest, size = xxh3_128(content), len(content)
            for piece in _rest(connection, oid) if size == _LO_FIRST else ():
                digest.update(piece)
                size += len(piece)
            yield oid, size, digest.hexdigest()


def _rest(connection: psycopg.Connection[tuple[Any, ...]], oid: int) -> Iterator[bytes]:
    """Yield the content of a large object after its first _LO_FIRST bytes."""
    at, query = _LO_FIRST, "SELECT lo_get(%s::oid, %s, %s)"
    while row := connection.execute(query, (oid, at, _LO_PIECE), binary=True).fetchone():
        yield row[0]
        at += len(row[0])
        if len(row[0]) < _LO_PIECE:
            return
