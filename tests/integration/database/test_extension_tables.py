"""An extension with tables of its own: what it declares as configuration travels, and a proof that lacks it says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from tests import oracle
from tests.command import Command, url_of
from tests.everything import Everything, drop

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.dump.snapshot import open_snapshot

_CONTROL = "default_version = '1.0'\nrelocatable = false\nschema = ours\n"
_SCRIPT = """
CREATE TABLE ours.configured (id int PRIMARY KEY, v text);
SELECT pg_catalog.pg_extension_config_dump('ours.configured', 'WHERE id > 0');
CREATE TABLE ours.own (id int, v text);
CREATE SEQUENCE ours.counter;
SELECT pg_catalog.pg_extension_config_dump('ours.counter', '');
"""
_FILL = """
INSERT INTO ours.configured SELECT i, repeat('c', 100) || i FROM generate_series(-10, 15000) i;
INSERT INTO ours.own SELECT i, repeat('o', 100) FROM generate_series(1, 15000) i;
SELECT setval('ours.counter', 42);
CREATE TABLE public.refers (id int REFERENCES ours.configured);
INSERT INTO public.refers VALUES (7);
"""


@pytest.fixture
def extended(server: Cluster, short_folder: Path) -> Iterator[Target]:
    """A database with an extension that no other server has."""
    if server.binaries.major < 18:
        pytest.skip("extension_control_path came with PostgreSQL 18")
    folder = short_folder / "extensions" / "extension"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ours.control").write_text(_CONTROL)
    (folder / "ours--1.0.sql").write_text(_SCRIPT)
    path = f"$system:{folder.parent}"
    with server.target().connect() as admin:
        admin.execute(sql.SQL("ALTER SYSTEM SET extension_control_path TO {}").format(path))
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("DROP DATABASE IF EXISTS extended WITH (FORCE)")
        admin.execute("CREATE DATABASE extended TEMPLATE template0")
    with server.target("extended").connect() as session:
        session.execute("CREATE SCHEMA ours")
        session.execute("CREATE EXTENSION ours SCHEMA ours")
        session.execute(_FILL)
    yield server.target("extended")
    drop(server, "extended")
    with server.target().connect() as admin:
        admin.execute("ALTER SYSTEM RESET extension_control_path")
        admin.execute("SELECT pg_reload_conf()")


def test_extension_rows_are_restored_and_unprovable_extensions_named(
    server: Cluster, extended: Target, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(extended))
    made = refnet("backup", "database")
    assert made.code == 3
    assert "could not verify" in made.out
    assert "NOT proven: extensions that are not available on this server: ours" in made.out
    assert "proven (" not in made.out
    assert "tables of extensions are not in the backup, as pg_dump leaves them out: ours.own" in " ".join(
        made.out.split()
    )
    assert refnet("verify").code == 3
    checked = refnet("check").out
    assert "scratch servers lack the extensions ours 1.0 (Debian: postgresql-18-ours)" in " ".join(
        checked.split()
    )
    reference = Everything(server, extended).reference
    refnet("restore", "database", "--force").succeeds()
    restored = oracle.portrait(extended.conninfo, server.binaries.folder)
    assert oracle.differences(reference.inside, restored.inside) == []
    assert restored.inside["rows of 'ours'.'configured'"].startswith("(15000,")
    assert restored.inside["rows of 'ours'.'own'"].startswith("(0,")
    assert restored.inside["sequence 'ours'.'counter'"] == "(42, True)"


def test_what_an_extension_declares_is_locked_before_the_snapshot(extended: Target) -> None:
    with open_snapshot(extended) as snapshot:
        locked = snapshot.rows(
            "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384"
            " AND mode = 'AccessShareLock'"
        )
        assert ("ours.configured",) in locked
        assert ("ours.own",) not in locked
        assert snapshot.heaps(0) == tuple(r for r in snapshot.relations if r.schema == "public")
