"""A restore that cannot be had says why in two lines; the live database stays, and no copy is left."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from benchmarks.throwaway import throwaway
from tests import oracle
from tests.command import Command, url_of
from tests.faults.conftest import Live

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

pytestmark = pytest.mark.usefixtures("unchanged", "no_copy_left")


@pytest.fixture
def no_copy_left(server: Cluster) -> Iterator[None]:
    """No database of the server comes or goes."""
    before = _databases(server)
    yield
    assert _databases(server) == before


def _databases(cluster: Cluster) -> set[str]:
    with cluster.target().connect() as admin:
        return {name for (name,) in admin.execute("SELECT datname::text FROM pg_database").fetchall()}


@pytest.fixture
def artifact(written: Path) -> Path:
    """An artifact of the live database."""
    return written


def test_no_artifact_at_all(refnet: Command) -> None:
    refnet("restore", "database", "--force").fails(1, "no complete artifact")


def test_a_time_before_the_first_artifact(refnet: Command, artifact: Path) -> None:
    refnet("restore", "database", "--force", "--at", "2001-01-01").fails(1, "2001-01-01")
    refnet("restore", "database", "--force", "--at", "soon").fails(2, "soon")


def test_a_path_that_is_not_there(refnet: Command, tmp_path: Path) -> None:
    refnet("restore", "database", tmp_path / "nowhere.sql.gz", "--force").fails(2, "nowhere.sql.gz")


def test_nobody_to_ask(refnet: Command, artifact: Path) -> None:
    refused = refnet("restore", "database")
    assert refused.code == 6
    assert len(refused.err.splitlines()) == 2


def test_a_server_that_is_down(refnet: Command, live: Live, artifact: Path, tmp_path: Path) -> None:
    down = replace(refnet, url=url_of(live.target, host=str(tmp_path), password="a s3cret"))
    result = down("restore", "database", "--force")
    result.fails(1, "no postgresql server answers")
    assert "s3cret" not in result.err


def test_a_damaged_artifact(refnet: Command, artifact: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 4
    artifact.write_bytes(data)
    refnet("restore", "database", artifact, "--force").fails(4, "damaged")
    artifact.write_bytes(data[:-50])
    refnet("restore", "database", artifact, "--force").fails(4, "damaged")


def test_a_partial_artifact(refnet: Command) -> None:
    refnet("backup", "database", "--table", "papers").succeeds()
    (partial,) = (refnet.backups / "database").glob("*.partial")
    refnet("restore", "database", partial, "--force").fails(2, "only some tables")
    refnet("restore", "database", "--force").fails(1, "no complete artifact")


def test_a_file_that_is_no_dump(refnet: Command, tmp_path: Path) -> None:
    for content in (b"", bytes(500), b"\x1f\x8b\x08\0", gzip.compress(b""), b"\x28\xb5\x2f\xfd123"):
        (tmp_path / "dump.sql.gz").write_bytes(content)
        result = refnet("restore", "database", tmp_path / "dump.sql.gz", "--force")
        assert result.code in (1, 4)
        result.fails(result.code, "dump.sql.gz")


def test_a_dump_made_with_create(refnet: Command, live: Live, tmp_path: Path) -> None:
    pg_dump = live.cluster.binaries.tool("pg_dump")
    dump = tmp_path / "with_create.sql.gz"
    dump.write_bytes(gzip.compress(oracle.run(pg_dump, "--create", conninfo=live.target.conninfo), 1))
    refnet("restore", "database", dump, "--force").fails(1, "creates databases itself", "without -C")


def test_a_dump_that_is_cut_short(refnet: Command, live: Live, tmp_path: Path) -> None:
    pg_dump = live.cluster.binaries.tool("pg_dump")
    dump = tmp_path / "theirs.sql.gz"
    whole = gzip.compress(oracle.run(pg_dump, conninfo=live.target.conninfo), 1)
    dump.write_bytes(whole[: len(whole) // 2])
    refnet("restore", "database", dump, "--force").fails(4, "theirs.sql.gz")


def test_an_artifact_of_a_newer_major(refnet: Command, artifact: Path, system_server: Cluster) -> None:
    if system_server.binaries.major >= 18:
        pytest.skip("the system's PostgreSQL is not older")
    older = replace(refnet, url=url_of(system_server.target("elsewhere")))
    older("restore", "database", artifact, "--force", "--from-database", "live").fails(
        1, f"server is {system_server.binaries.major}"
    )
    assert "elsewhere" not in _databases(system_server)


def test_a_missing_role(refnet: Command, live: Live) -> None:
    live.run("CREATE ROLE reader; GRANT SELECT ON papers TO reader")
    refnet("backup", "database", "--no-prove").succeeds()
    live.run(
        "DROP OWNED BY reader; DROP ROLE reader; REVOKE ALL ON papers FROM CURRENT_USER; GRANT ALL ON papers TO CURRENT_USER"
    )
    refnet("restore", "database", "--force").fails(1, "reader", "--create-roles")
    live.run("UPDATE pg_class SET relacl = NULL WHERE relname = 'papers'")


def test_a_missing_extension(refnet: Command, server: Cluster, system_server: Cluster) -> None:
    name = _only_there(system_server, server)
    with system_server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS extended")
        admin.execute("CREATE DATABASE extended TEMPLATE template0")
    with system_server.target("extended").connect() as session:
        session.execute(f'CREATE EXTENSION "{name}" CASCADE'.encode())
    replace(refnet, url=url_of(system_server.target("extended")))(
        "backup", "database", "--no-prove"
    ).succeeds()
    refnet("restore", "database", "--force", "--from-database", "extended").fails(1, name, "extension")


def _only_there(one: Cluster, other: Cluster) -> str:
    """An extension that `one` has and `other` lacks."""
    names = []
    for cluster in (one, other):
        with cluster.target().connect() as admin:
            names.append(
                {
                    name
                    for (name,) in admin.execute("SELECT name::text FROM pg_available_extensions").fetchall()
                }
            )
    only = sorted(names[0] - names[1])
    if "pgcrypto" not in only:
        pytest.skip("both builds have the same extensions")
    return "pgcrypto"


def test_a_missing_locale(refnet: Command, server: Cluster, system_server: Cluster) -> None:
    for cluster, expected in ((system_server, True), (server, False)):
        with cluster.target().connect() as admin:
            row = admin.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'").fetchone()
        if bool(row) is not expected:
            pytest.skip("both builds have the same locales")
    with system_server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS localized")
        admin.execute(
            "CREATE DATABASE localized TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    replace(refnet, url=url_of(system_server.target("localized")))(
        "backup", "database", "--no-prove"
    ).succeeds()
    refnet("restore", "database", "--force", "--from-database", "localized").fails(1, "locale de")


@contextmanager
def _role(live: Live, name: str, rights: str = "SELECT 1") -> Iterator[str]:
    with live.cluster.target().connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN".encode())
        admin.execute(rights.encode())
    try:
        yield url_of(live.target, user=name)
    finally:
        with live.cluster.target().connect() as admin:
            admin.execute(f"DROP ROLE {name}".encode())


def test_a_role_without_createdb(refnet: Command, live: Live, artifact: Path) -> None:
    with _role(live, "modest") as url:
        replace(refnet, url=url)("restore", "database", "--force").fails(
            1, "modest", "may not create databases"
        )


def test_a_role_that_does_not_own_the_database(refnet: Command, live: Live, artifact: Path) -> None:
    with _role(live, "stranger", "ALTER ROLE stranger CREATEDB") as url:
        replace(refnet, url=url)("restore", "database", "--force").fails(1, "stranger", "--plan")


def test_a_prepared_transaction(refnet: Command, wheel: Binaries, artifact: Path, short_folder: Path) -> None:
    with throwaway(
        wheel, base=short_folder / "prepared", settings={"max_prepared_transactions": "2"}
    ) as cluster:
        there = replace(refnet, url=url_of(cluster.target("postgres_live")))
        there("restore", "database", "--from-database", "live").succeeds()
        with cluster.target("postgres_live").connect() as session:
            session.execute("BEGIN; DELETE FROM summaries; PREPARE TRANSACTION 'half done'")
        there("restore", "database", "--force", "--from-database", "live").fails(
            1, "half done", "ROLLBACK PREPARED"
        )
        with cluster.target("postgres_live").connect() as session:
            session.execute("ROLLBACK PREPARED 'half done'")
            assert session.execute("SELECT count(*) FROM summaries").fetchone() == (100,)
        there("restore", "database", "--force", "--from-database", "live").succeeds()


def test_no_room_on_the_server(refnet: Command, wheel: Binaries, artifact: Path, short_folder: Path) -> None:
    folder = short_folder / "tight"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=220m,mode=0711", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        settings = {"max_wal_size": "32MB", "min_wal_size": "32MB"}
        with throwaway(wheel, base=folder, settings=settings) as cluster:
            there = replace(refnet, url=url_of(cluster.target("tight")))
            there("restore", "database", "--from-database", "live").succeeds()
            (folder / "filler").write_bytes(bytes(_free(folder) - (2 << 20)))
            there("restore", "database", "--force", "--from-database", "live").fails(1, "free")
            assert _databases(cluster) >= {"tight"}
            with psycopg.connect(cluster.target("tight").conninfo) as session:
                assert session.execute("SELECT count(*) FROM papers").fetchone() == (3000,)
            (folder / "filler").unlink()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def test_a_server_that_ends_the_session_of_a_restore(
    refnet: Command, server: Cluster, artifact: Path
) -> None:
    run = refnet.start("restore", "database", "--force")
    with server.target().connect() as admin:
        run.until(lambda: admin.execute(_END_ITS_SESSION).fetchall(), "its copy")
    done = run.end()
    done.fails(1)
    assert "terminating connection" in done.err or "closed the connection" in done.err
    refnet("prune", "database").succeeds()  # the next run removes the copy, which nothing could drop


_END_ITS_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND EXISTS (SELECT FROM pg_database WHERE datname LIKE 'live_copy_%')
"""
