"""What only a scratch server lacks is no damage: restores choose the artifact, and the live server restores it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import Command, url_of
from tests.faults.conftest import Live

from refnet.postgres.binaries import installed
from refnet.postgres.cluster import Cluster

JOBS = "SELECT jobname, schedule, command, active FROM cron.job ORDER BY jobid"


@pytest.fixture(scope="module")
def cron(short_folder: Path) -> Iterator[Cluster]:
    """A server with pg_cron, which can only be created in the database `scheduled`."""
    found = [one for one in installed(None) if one.origin == "system" and one.has_server]
    if not found or not _has_cron(found[0].folder):
        pytest.skip("this machine has no pg_cron")
    settings = {
        "shared_preload_libraries": "pg_cron",
        "cron.database_name": "scheduled",
        "cron.launch_active_jobs": "off",
    }
    with throwaway(found[0], base=short_folder / "cron", settings=settings) as cluster:
        with cluster.target().connect() as admin:
            admin.execute("CREATE DATABASE scheduled TEMPLATE template0")
        yield cluster


def _has_cron(folder: Path) -> bool:
    return (folder.parent / "lib" / "pg_cron.so").exists()


@pytest.fixture
def scheduled(cron: Cluster) -> Live:
    live = Live(cron, cron.target("scheduled"))
    with contextlib.suppress(Exception):
        live.run("DROP EXTENSION IF EXISTS pg_cron")
    live.run("DROP SCHEMA public CASCADE")
    live.run("CREATE SCHEMA public")
    live.run("CREATE TABLE papers AS SELECT i AS id, md5(i::text) AS title FROM generate_series(1, 5000) i")
    live.run("CREATE EXTENSION pg_cron")
    live.run("SELECT cron.schedule('nightly', '0 2 * * *', 'VACUUM')")
    live.run("SELECT cron.schedule('hourly', '15 * * * *', 'ANALYZE papers')")
    live.run("CREATE ROLE keeper") if not _role(live) else None
    live.run("GRANT USAGE ON SCHEMA cron TO keeper")
    return live


def _role(live: Live) -> bool:
    with live.target.connect() as session:
        return bool(session.execute("SELECT FROM pg_roles WHERE rolname = 'keeper'").fetchall())


def test_pg_cron_is_named_as_unverifiable_and_its_own_server_restores_it(
    scheduled: Live, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(scheduled.target))
    made = refnet("backup", "database")
    assert made.code == 3, made.out + made.err
    assert "DAMAGED" not in made.out
    assert "pg_cron" in made.out.splitlines()[-1]
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["state"] == "intact"

    with scheduled.target.connect() as session:
        jobs = session.execute(JOBS).fetchall()
    scheduled.run("DELETE FROM papers")
    scheduled.run("DELETE FROM cron.job")
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.out + done.err
    with scheduled.target.connect() as session:
        assert session.execute(JOBS).fetchall() == jobs
        assert session.execute("SELECT count(*) FROM papers").fetchone() == (5000,)
        assert session.execute("SELECT cron.schedule('new', '0 1 * * *', 'SELECT 1') > 2").fetchone() == (
            True,
        )
        assert session.execute("SELECT has_schema_privilege('keeper', 'cron', 'USAGE')").fetchone() == (True,)


def test_an_extension_without_rows_unusable_under_another_name_is_omitted(
    scheduled: Live, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(scheduled.target))
    refnet("backup", "database", "--no-prove").succeeds()
    refused = refnet("restore", "database", "--as", "with_jobs")
    assert refused.code == 1
    assert "restored without the extension pg_cron: " in refused.err

    scheduled.run("DELETE FROM cron.job")
    refnet("backup", "database", "--no-prove").succeeds()
    done = refnet("restore", "database", "--as", "elsewhere")
    assert done.code == 0, done.err
    assert "left out: extension pg_cron is missing (" in done.out
    assert "by hand: CREATE EXTENSION pg_cron;" in done.out
    with scheduled.cluster.target("elsewhere").connect() as session:
        assert session.execute("SELECT count(*) FROM papers").fetchone() == (5000,)


def test_only_security_labels_of_an_unloaded_provider_are_left_out(refnet: Command, live: Live) -> None:
    with live.target.connect({"allow_system_table_mods": "on"}) as session:
        session.execute(
            "INSERT INTO pg_seclabel SELECT oid, 'pg_class'::regclass, 0, 'masker', 'it''s secret' "
            "FROM pg_class WHERE relname IN ('papers', 'counted')"
        )
    made = refnet("backup", "database")
    assert made.code == 3, made.out + made.err
    assert "security label of masker on TABLE public.papers" in made.out
    assert "DAMAGED" not in made.out
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["state"] == "restored"

    live.run("DELETE FROM summaries")
    done = refnet("restore", "database", "--force")
    assert done.code == 0, done.out + done.err
    assert "by hand: SECURITY LABEL FOR masker ON TABLE public.papers IS 'it''s secret';" in done.out
    with live.target.connect() as session:
        assert session.execute("SELECT count(*) FROM summaries").fetchone() == (100,)
