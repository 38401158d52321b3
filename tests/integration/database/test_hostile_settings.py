"""Settings of a database or a role that change what a careless reader sees, or stop a careless writer."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql
from tests import oracle
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_ROWS = """
CREATE SCHEMA evil;
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
CREATE TABLE public.papers (id serial PRIMARY KEY, a int[], t text[], f float8, b bytea, m money, at timestamptz, i interval, n public.positive);
INSERT INTO public.papers (a, t, f, b, m, at, i, n)
    SELECT ARRAY[i, NULL], ARRAY['NULL', NULL, '\\'], i / 3.0, decode(md5(i::text), 'hex'), i::money, timestamptz '2020-01-01 00:00:00+00' + i * interval '1 hour',
           make_interval(days => -i, secs => i), i FROM generate_series(1, 12000) i;
CREATE TABLE public."back\\slash" (id serial, v text DEFAULT 'a\\b');
INSERT INTO public."back\\slash" (v) VALUES (DEFAULT), ('c\\d'), (E'\\n');
CREATE VIEW public.nulls AS SELECT id FROM public.papers WHERE (a[2] = NULL) IS NULL AND id < 10;
CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) AS n FROM public.nulls;
CREATE TABLE evil.papers (id int);
"""

SETTINGS = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "session_replication_role": "replica",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "search_path": "evil",
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "default_table_access_method": "heap",
    "default_toast_compression": "pglz",
    "exit_on_error": "on",
    "ignore_checksum_failure": "on",
    "enable_seqscan": "off",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Kiritimati",
    "lc_monetary": "C",
    "statement_timeout": "20ms",
    "lock_timeout": "20ms",
    "idle_session_timeout": "20ms",
    "idle_in_transaction_session_timeout": "20ms",
    "work_mem": "64kB",
    "check_function_bodies": "on",
    "log_statement": "all",
    "synchronize_seqscans": "on",
    "xmloption": "document",
    "event_triggers": "off",
    "createrole_self_grant": "set, inherit",
    "restrict_nonsystem_relation_kind": "foreign-table",
    "transaction_timeout": "20ms",
    "vacuum_truncate": "off",
}


@pytest.fixture
def filled(database: Target) -> Target:
    with database.connect() as session:
        session.execute(_ROWS)
    return database


def test_no_setting_of_a_database_spoils_a_backup_or_a_restore(
    server: Cluster, filled: Target, tmp_path: Path, short_home: Path
) -> None:
    """All of them at once: what one of them spoils shows as a difference or an error that names it."""
    refnet = Command(short_home, tmp_path / "backups", url_of(filled))
    with server.target().connect() as admin:
        known = {name for (name,) in admin.execute("SELECT name FROM pg_settings").fetchall()}
        chosen = {name: value for name, value in SETTINGS.items() if name in known}
        assert len(chosen) > 30
        for name, value in chosen.items():
            change = sql.SQL("ALTER DATABASE {} SET {} TO {}")
            admin.execute(
                change.format(sql.Identifier(filled.name), sql.Identifier(name), sql.Literal(value))
            )
    before = oracle.portrait(filled.conninfo, server.binaries.folder)
    made = refnet("backup", "database")
    made.succeeds()
    assert "proven" in made.out
    refnet("restore", "database", "--force").succeeds()
    after = oracle.portrait(filled.conninfo, server.binaries.folder)
    assert oracle.differences(before.inside, after.inside) == []
    assert oracle.differences(before.around, after.around) == []
    refnet("undo", "database", "--force").succeeds()
    assert (
        oracle.differences(before.inside, oracle.portrait(filled.conninfo, server.binaries.folder).inside)
        == []
    )
