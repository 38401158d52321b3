"""Every database of a server, by `[clusters.NAME]`, through the command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import Command, url_of

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.sources.database.restore import previous_databases
from refnet.store.previous_records import DatabaseMark, MarkState


@pytest.fixture(scope="module")
def crowded(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server of its own with three databases and a role."""
    with throwaway(wheel, base=short_folder / "crowded") as cluster:
        sql(cluster, "CREATE DATABASE shop", 'CREATE DATABASE "Wiki Talk"', "CREATE DATABASE scratch_1")
        sql(cluster, "CREATE ROLE app LOGIN PASSWORD 'x'")
        for name in ("shop", "Wiki Talk"):
            with cluster.target(name).connect() as session:
                session.execute("CREATE TABLE orders AS SELECT g AS id FROM generate_series(1, 50) g")
        yield cluster


def sql(cluster: Cluster, *statements: str) -> None:
    with cluster.target().connect() as session:
        for one in statements:
            session.execute(one)


@pytest.fixture
def refnet(folder: Path, crowded: Cluster) -> Command:
    (folder / "refnet.toml").write_text(
        f'[clusters.main]\nurl = "{url_of(crowded.target())}"\nexclude = ["scratch_*", "postgres"]\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    return Command(folder / "home", folder / "backups", "")


def test_databases_come_and_go_and_the_roles_come_back(refnet: Command, crowded: Cluster) -> None:
    planned = refnet("backup", "--plan", "--json").json["sources"]
    odd = next(one["source"] for one in planned if one["source"].startswith("main-wiki_talk-"))
    assert {one["source"] for one in planned} == {"main-globals", "main-shop", odd}
    assert not (refnet.home / "clusters").exists()
    shown = {one["key"]: one["value"] for one in refnet("settings", "--json").json["settings"]}
    assert shown["clusters.main.exclude"] == ["scratch_*", "postgres"]

    made = refnet("backup", "main", "--no-prove", "--json")
    assert made.code == 0, made.err
    assert {one["source"] for one in made.json["results"]} == {"main-globals", "main-shop", odd}
    assert 0 <= made.json["apart_seconds"] < 60
    assert refnet("verify", "main-globals", "--json").json["results"][0]["level"] == "proven"

    copy = "shop_copy_20261125_120000"  # of a restore that runs
    sql(crowded, f"CREATE DATABASE {copy}")
    with crowded.target().connect() as session:
        mark = DatabaseMark("shop", MarkState.COPY, datetime(2026, 11, 25, 12, tzinfo=UTC))
        session.execute(previous_databases.comment_on(copy, previous_databases.comment_of(mark)))
    sql(crowded, "CREATE DATABASE later IS_TEMPLATE true", 'DROP DATABASE "Wiki Talk"', "DROP ROLE app")
    interrupted = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'"  # as DROP DATABASE does
    sql(crowded, "CREATE DATABASE broken", interrupted)
    again = refnet("backup", "--no-prove", "--json")
    assert {one["source"] for one in again.json["results"]} == {"main-globals", "main-shop", "main-later"}
    sql(crowded, f"DROP DATABASE {copy}", "DROP DATABASE broken")
    assert "the database Wiki Talk of the cluster main is gone; its backups are kept" in again.err
    assert [name for name in refnet.names() if name.startswith(odd)]

    first = min(name for name in refnet.names() if name.startswith("main-globals_"))
    plan = refnet("restore", "main-globals", first, "--plan")
    assert "create 1 role" in plan.out
    assert "app" in plan.out
    restored = refnet("restore", "main-globals", first, "--json")
    assert restored.json["comparison"]["outcome"] == "passed"
    with crowded.target().connect() as session:
        assert session.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'").fetchone() == (True,)
    refnet("restore", "main-globals", "--only", "x").fails(2, "--only", "main-globals", "roles of a cluster")
    refnet("backup", "main", REFNET_BACKUP_ORDER="folder").fails(2, "backup.order names folder", "folders?")
    refnet("undo", "main-globals").fails(2, "nothing to undo")
    refnet("diff", "main-globals").fails(2, "restore main-globals --plan")
    refnet("diff", "main-globals", "main-globals").fails(2, "not compared as rows or files")
    refnet("find", "main-globals", "x").fails(2, "neither tables nor files")


def test_a_database_that_another_table_names_is_left_to_it(
    refnet: Command, crowded: Cluster, folder: Path
) -> None:
    with (folder / "refnet.toml").open("a") as settings:
        settings.write(f'[databases.own]\nurl = "{url_of(crowded.target("shop"))}"\n')
    found = {one["source"] for one in refnet("backup", "--plan", "--json").json["sources"]}
    assert "own" in found
    assert "main-shop" not in found


def test_a_server_that_is_down_fails_the_backup_and_keeps_what_was_seen(
    refnet: Command, folder: Path
) -> None:
    file = folder / "refnet.toml"
    refnet("backup", "main", "--no-prove")
    file.write_text(file.read_text().replace("host=", "host=/nowhere").replace("@localhost", "@localhost:1"))
    down = refnet("backup", "main", "--no-prove")
    assert down.code == 1
    assert "Traceback" not in down.err
    assert "main-shop" in refnet("monitor").out


def test_ctrl_c_ends_every_process_of_a_backup(refnet: Command, crowded: Cluster, folder: Path) -> None:
    lock = crowded.target("shop").connect(autocommit=False)
    with lock:
        lock.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        run = refnet.start("backup", "main", "--no-prove")
        run.until(lambda: any((refnet.backups / "main-shop").glob(".*")), "the start of a dump")
        run.send(signal.SIGINT)
        ended = run.end()
        lock.rollback()
    assert ended.code == 1
    assert "main-shop: stopped by Ctrl-C; no artifact was made" in ended.err
    assert "Traceback" not in ended.err
    assert not [name for name in refnet.files() if "main-shop" in name]
    assert refnet("backup", "main-shop", "--no-prove").code == 0


def test_a_vanished_database_is_critical_until_accepted_and_restorable(
    refnet: Command, crowded: Cluster, folder: Path
) -> None:
    settings = (folder / "refnet.toml").read_text()  # of the databases of the server, this one alone
    (folder / "refnet.toml").write_text(
        settings.replace('"postgres"', '"postgres", "shop", "later", "Wiki*"')
    )
    sql(crowded, "CREATE DATABASE pagila")
    with crowded.target("pagila").connect() as session:
        session.execute("CREATE TABLE film AS SELECT g AS id FROM generate_series(1, 20) g")
    refnet("backup", "main", "--no-prove").succeeds()
    sql(crowded, "ALTER DATABASE pagila RENAME TO pagila2")

    again = refnet("backup", "main", "--no-prove", "--json")
    assert again.code == 0
    assert "main-pagila2" in {one["source"] for one in again.json["results"]}
    assert "refnet accept main-pagila" in again.err
    refnet("backup", "main-pagila").fails(1, "no longer has the database", "refnet restore main-pagila")
    for _ in range(2):  # it stays critical
        assert ["CRITICAL", "main-pagila", "gone"] in [
            line.split()[:3] for line in refnet("monitor").out.splitlines()
        ]
    assert refnet("restore", "main-pagila", "--json").code == 0
    refnet("backup", "main", "--no-prove").succeeds()
    assert "gone" not in refnet("monitor").out

    sql(crowded, "ALTER DATABASE pagila ALLOW_CONNECTIONS false")
    closed = refnet("backup", "main", "--no-prove")  # it is there: not gone, and not passed over
    assert (closed.code, "ALTER DATABASE pagila ALLOW_CONNECTIONS true" in closed.err) == (1, True)
    assert "gone" not in refnet("monitor").out
    sql(crowded, "ALTER DATABASE pagila ALLOW_CONNECTIONS true")

    sql(crowded, "DROP DATABASE pagila", "DROP DATABASE pagila2")
    refnet("backup", "main", "--no-prove")
    assert refnet("accept", "main-pagila", "--plan").code == 0
    for name in ("main-pagila", "main-pagila2"):
        assert refnet("accept", name).out.endswith(f"accepted: {name} is gone; its artifacts stay\n")
    assert "gone" not in refnet("monitor").out
    refnet("accept", "main-pagila").fails(2, "there is no artifact 'main-pagila'")
    refnet("monitor", "main-pagila").fails(3, "the source main-pagila is not configured")  # and never OK
    (folder / "home2").mkdir()
    other = Command(folder / "home2", refnet.backups, "", {"REFNET_CONFIG": str(folder / "refnet.toml")})
    restored = other("restore", "main-pagila", "--json")
    assert restored.code == 0, restored.err
    with crowded.target("pagila").connect() as session:
        assert session.execute("SELECT count(*) FROM film").fetchone() == (20,)
    sql(crowded, "DROP DATABASE pagila")


def test_a_previous_version_without_its_record_is_no_cluster_database(
    refnet: Command, crowded: Cluster, folder: Path
) -> None:
    refnet("backup", "main-globals", "main", "--no-prove").succeeds()
    assert refnet("restore", "main-shop", "--force", "--json").code == 0
    (folder / "home2").mkdir()
    other = Command(folder / "home2", folder / "backups2", "", {"REFNET_CONFIG": str(folder / "refnet.toml")})

    planned = {one["source"] for one in other("backup", "--plan", "--json").json["sources"]}

    assert not [name for name in planned if "before" in name]
    assert "not protected" not in [
        line.split()[1] for line in other("check").out.splitlines() if "before" in line
    ]


def test_a_mistyped_database_of_a_cluster_is_an_error_and_never_ok(refnet: Command) -> None:
    refnet("monitor", "main-shpo").fails(3, "'main-shpo' is not a source")
    for command in ("backup", "list", "prune"):
        refnet(command, "main-shpo").fails(2, "'main-shpo' is not a source")
