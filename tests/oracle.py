"""What a database holds, seen without any of RefNet's code: stock pg_dump's schema text, md5 of the rows, catalogs.

A portrait is a dict of plain facts. Two databases are the same where their portraits are. `inside` is what a
dump carries; `around` is what belongs to the database itself (owner, settings, privileges, comment).
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: The database's own settings must not change what the oracle sees, nor kill it.
_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "datestyle=ISO", "intervalstyle=postgres", "timezone=UTC", "bytea_output=hex", "extra_float_digits=3",
        "search_path=pg_catalog", "row_security=off", "quote_all_identifiers=off", "statement_timeout=0",
        "lock_timeout=0", "idle_in_transaction_session_timeout=0", "idle_session_timeout=0", "standard_conforming_strings=on",
        "default_transaction_isolation=read\\ committed", "default_transaction_read_only=off", "lc_monetary=C",
        "enable_tidscan=on", "client_min_messages=error", "array_nulls=on",
    )
)  # fmt: skip

_TABLES = """
WITH RECURSIVE above(oid, root, hashed) AS (
    SELECT c.oid, c.oid, false FROM pg_class c WHERE NOT c.relispartition
    UNION ALL
    SELECT i.inhrelid, a.root, a.hashed OR p.partstrat = 'h'
    FROM above a JOIN pg_inherits i ON i.inhparent = a.oid JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
    JOIN pg_partitioned_table p ON p.partrelid = a.oid
)
SELECT n.nspname, c.relname, c.relkind::text,
       ARRAY(SELECT attname::text FROM pg_attribute a
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attname COLLATE "C")
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN above ON above.oid = c.oid
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND (c.relkind = 'r' AND NOT hashed OR c.relkind = 'p' AND NOT c.relispartition OR c.relkind = 'm' AND c.relispopulated)
ORDER BY 1, 2
"""
_SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery()) AND n.nspname !~ '^pg_' ORDER BY 1, 2
"""
_LARGE_OBJECTS = """
SELECT m.oid, md5(lo_get(m.oid)), length(lo_get(m.oid)), pg_get_userbyid(m.lomowner),
       ARRAY(SELECT x::text FROM unnest(coalesce(m.lomacl, acldefault('L', m.lomowner))) x ORDER BY 1), obj_description(m.oid, 'pg_largeobject')
FROM pg_largeobject_metadata m ORDER BY 1
"""
_POPULATED = """
SELECT n.nspname, relname, relispopulated FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'm' ORDER BY 1, 2
"""
_INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready) ORDER BY 1"
_DATABASE = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, datistemplate,
       datallowconn, ARRAY(SELECT x::text FROM unnest(coalesce(datacl, acldefault('d', datdba))) x ORDER BY 1), shobj_description(oid, 'pg_database'),
       (to_jsonb(d) ->> 'datlocprovider'), coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
FROM pg_database d WHERE datname = current_database()
"""
_SETTINGS = """
SELECT coalesce(setrole::regrole::text, ''), unnest(setconfig) FROM pg_db_role_setting
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Portrait:
    """What a database holds: `inside` travels in a dump, `around` belongs to the database itself."""

    inside: Mapping[str, str]
    around: Mapping[str, str]


def portrait(conninfo: str, bin_dir: Path) -> Portrait:
    """The portrait of the database at `conninfo`; `bin_dir` holds pg_dump of the server's major."""
    with psycopg.connect(
        make_conninfo(conninfo, options=_options(conninfo), client_encoding="UTF8")
    ) as connection:
        inside = {
            "invalid indexes": repr(connection.execute(_INVALID).fetchall()),
        }
        for schema, name, populated in connection.execute(_POPULATED).fetchall():
            inside[f"populated {schema!r}.{name!r}"] = repr(populated)
        for row in connection.execute(_LARGE_OBJECTS).fetchall():
            inside[f"large object {row[0]}"] = repr(row[1:])
        inside |= sequences(connection)
        for schema, name, kind, columns in connection.execute(_TABLES).fetchall():
            inside[f"rows of {schema!r}.{name!r}"] = repr(_rows(connection, schema, name, kind, columns))
        around = {
            "database": repr(connection.execute(_DATABASE).fetchone()),
            "settings": "\n".join(f"{role} {setting}" for role, setting in connection.execute(_SETTINGS)),
        }
    return Portrait({**inside, "schema": schema_text(conninfo, bin_dir)}, around)


@functools.cache
def _options(conninfo: str) -> str:
    """The oracle's settings, with the one that only servers since 17 know."""
    with psycopg.connect(make_conninfo(conninfo, dbname="postgres")) as connection:
        return _OPTIONS + (" -c transaction_timeout=0" if connection.info.server_version >= 170_000 else "")


def sequences(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The value of each sequence."""
    found = connection.execute(_SEQUENCES).fetchall()
    return {f"sequence {one!r}.{name!r}": repr(_sequence(connection, one, name)) for one, name in found}


def _sequence(connection: psycopg.Connection[Any], schema: str, name: str) -> Any:
    query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
    return connection.execute(query).fetchone()


def _rows(connection: psycopg.Connection[Any], schema: str, name: str, kind: str, columns: list[str]) -> Any:
    """Count and md5 of the rows' text, columns in the order of their names."""
    query = sql.SQL(
        "SELECT count(*), md5(coalesce(string_agg(md5(r), '' ORDER BY md5(r)), '')) FROM (SELECT ROW({})::text FROM {}{}) x(r)"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL("" if kind == "p" else "ONLY "),
        sql.Identifier(schema, name),
    )
    return connection.execute(query).fetchone()


def schema_text(conninfo: str, bin_dir: Path) -> str:
    """pg_dump's own text of the schema, without what changes from run to run."""
    text = run(bin_dir / "pg_dump", "--schema-only", "--encoding=UTF8", conninfo=conninfo).decode()
    return re.sub(r"(?m)^\\(un)?restrict .*\n", "", text)


def run(program: Path, *arguments: str, conninfo: str, stdin: bytes | Path | None = None) -> bytes:
    """The output of one of PostgreSQL's own programs; AssertionError with its errors where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | connection_environment(
        conninfo
    )
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": subprocess.DEVNULL}
    if isinstance(stdin, Path):
        with stdin.open("rb") as file:
            done = subprocess.run(
                [program, *arguments], stdin=file, capture_output=True, env=environment, check=False
            )
    else:
        done = subprocess.run(
            [program, *arguments], **given, capture_output=True, env=environment, check=False
        )
    assert done.returncode == 0, (
        f"{program.name} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
    )
    return done.stdout


def connection_environment(conninfo: str) -> dict[str, str]:
    """libpq's variables for `conninfo`, with the oracle's settings in force."""
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
    }
    parts = conninfo_to_dict(conninfo)
    return {variable: str(parts[key]) for key, variable in names.items() if parts.get(key)} | {
        "PGOPTIONS": _OPTIONS
    }


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One line for each fact that differs, so that a failing test says which."""
    lines = []
    for key in sorted(expected.keys() | found.keys()):
        one, other = expected.get(key), found.get(key)
        if one == other:
            continue
        if one and other and ("\n" in one or "\n" in other):
            changed = difflib.unified_diff(
                one.splitlines(), other.splitlines(), "expected", "found", n=1, lineterm=""
            )
            lines.append(f"{key}:\n" + "\n".join(list(changed)[:80]))
        else:
            lines.append(f"{key}: expected {one}, found {other}")
    return lines
