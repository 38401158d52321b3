"""Two databases, or two servers, with one backup folder: neither's backups stand for the other's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from tests.command import Command, url_of
from tests.faults.conftest import Live

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


@pytest.fixture
def wiki(server: Cluster) -> Iterator[Target]:
    """A small database beside the live one, on the same server."""
    yield from _made(server, "wiki")


@pytest.fixture(scope="module")
def new_server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """Another server of the same PostgreSQL."""
    with throwaway(wheel, base=short_folder / "new") as cluster:
        yield cluster


@pytest.fixture
def elsewhere(new_server: Cluster) -> Iterator[Target]:
    """The database `live` of another server, which holds nothing."""
    yield from _made(new_server, "live", "")


def _made(
    cluster: Cluster, name: str, script: str = "CREATE TABLE pages AS SELECT 1 AS id"
) -> Iterator[Target]:
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    with cluster.target(name).connect() as session:
        session.execute(script.encode() or b"SELECT")
    yield cluster.target(name)
    with cluster.target().connect() as admin:
        for (one,) in admin.execute(
            "SELECT datname FROM pg_database WHERE datname = %s OR datname LIKE %s",
            (name, f"{name}\\_%\\_2%"),
        ).fetchall():
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the backups of `both` are, once they were made."""
    return tmp_path_factory.mktemp("both")


@pytest.fixture
def both(refnet: Command, wiki: Target, proven: Path, of_both: Path) -> Path:
    """The proven artifact of the live database; beside it is one of the small database, proven later."""
    folders = {of_both / "backups": refnet.backups, of_both / "home": refnet.home}
    if any(of_both.iterdir()):
        shutil.rmtree(refnet.backups)
        for kept, folder in folders.items():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
    else:
        on(refnet, wiki)("backup", "database").succeeds()
        for kept, folder in folders.items():
            shutil.copytree(folder, kept)
    return proven


def on(refnet: Command, target: Target) -> Command:
    return replace(refnet, url=url_of(target))


def age(artifact: Path, days: int) -> None:
    """Date `artifact` back in its manifest."""
    manifest = artifact.with_name(artifact.name + ".json")
    values = json.loads(manifest.read_text())
    for key in ("created", "published"):
        values[key] = (datetime.fromisoformat(values[key]) - timedelta(days=days)).isoformat()
    manifest.write_text(json.dumps(values))


def test_a_restore_without_an_artifact_takes_its_own_databases_newest(
    refnet: Command, wiki: Target, live: Live, written: Path
) -> None:
    assert written.exists()
    on(refnet, wiki)("backup", "database", "--no-prove").succeeds()

    plan = refnet("restore", "database", "--plan", "--json").json
    assert (plan["database"], plan["from_database"], plan["problems"]) == ("live", "live", [])
    refnet("restore", "database", "--force").succeeds()
    with live.target.connect() as session:
        assert session.execute("SELECT count(*) FROM papers").fetchone() == (3000,)


@pytest.mark.usefixtures("unchanged")
def test_an_artifact_of_another_database_is_refused_by_both_names(refnet: Command, wiki: Target) -> None:
    on(refnet, wiki)("backup", "database", "--no-prove").succeeds()
    artifact = refnet.artifact().name

    refnet("restore", "database", artifact, "--force").fails(
        2, "the database wiki", "live on", "--from-database wiki"
    )
    refnet("restore", "database", "--force").fails(1, "the database live", "wiki")
    table = ("--table", "pages", "--mode", "missing", "--force")
    refnet("restore", "database", artifact, *table).fails(
        2, "the database wiki", "live on", "--from-database wiki"
    )
    refnet("recover", "--only", "database", "--force").fails(1, "wiki")
    refnet("restore", "database", artifact, "--from-database", "shop", "--force").fails(2, "wiki", "shop")


def test_an_artifact_of_another_database_goes_where_it_was_named_to(
    refnet: Command, wiki: Target, live: Live
) -> None:
    on(refnet, wiki)("backup", "database", "--no-prove").succeeds()

    done = refnet("restore", "database", "--from-database", "wiki", "--force")
    done.succeeds()
    assert "live on " in done.out
    assert "(of wiki" in done.out
    with live.target.connect() as session:
        assert session.execute("SELECT count(*) FROM pages").fetchone() == (1,)
    undone = refnet("undo", "database", "--force")
    undone.succeeds()
    assert "live on " in undone.out


def test_prune_keeps_the_last_proven_artifact_of_each_database(
    refnet: Command, wiki: Target, both: Path
) -> None:
    age(both, 30)

    listed = refnet("list")
    assert "live" in listed.out
    assert "wiki" in listed.out
    on(refnet, wiki)("prune", "database").succeeds()
    assert both.exists()


def test_the_monitor_judges_the_configured_database_and_names_the_others(
    refnet: Command, wiki: Target, both: Path
) -> None:
    age(both, 30)

    checks = {one["check"]: one for one in refnet("monitor", "database", "--json").json["checks"]}
    assert checks["age"]["status"] == "critical"
    assert "wiki: 1 artifact" in checks["others"]["says"]
    assert on(refnet, wiki)("monitor", "database").code == 0


def test_a_server_that_is_down_is_judged_by_its_name(refnet: Command, both: Path) -> None:
    down = replace(refnet, url="postgresql://nobody@127.0.0.1:9/live")

    checks = {one["check"]: one for one in down("monitor", "database", "--json").json["checks"]}
    assert (checks["age"]["status"], checks["others"]["says"][:16]) == ("ok", "wiki: 1 artifact")
    assert min(refnet.names()) == both.name
    assert down("verify", "--level", "intact").out.startswith(both.name)


def test_a_new_server_gets_the_newest_of_the_same_name_without_options(
    refnet: Command, elsewhere: Target, written: Path
) -> None:
    new = on(refnet, elsewhere)
    assert new.names() == [written.name]

    plan = new("restore", "database", "--plan")
    plan.succeeds()
    assert "it was made on another server (system identifier" in plan.out
    new("recover", "--only", "database", "--force").succeeds()
    with elsewhere.connect() as session:
        assert session.execute("SELECT count(*) FROM papers").fetchone() == (3000,)


def test_a_database_from_another_server_continues_with_its_artifacts(
    refnet: Command, elsewhere: Target, written: Path
) -> None:
    new = on(refnet, elsewhere)
    new("restore", "database", "--force").succeeds()

    again = new("restore", "database", written.name, "--force")
    again.succeeds()
    assert "another server" in again.out
    new("restore", "database", "--table", "papers", "--mode", "missing").succeeds()
    new("recover", "--only", "database", "--force").succeeds()
    checks = {one["check"]: one["status"] for one in new("monitor", "database", "--json").json["checks"]}
    assert checks["age"] == "ok"


def test_restore_never_replaces_another_servers_database_unasked(
    refnet: Command, elsewhere: Target, written: Path
) -> None:
    artifact = written.name
    new = on(refnet, elsewhere)
    with elsewhere.connect() as session:
        session.execute("CREATE TABLE papers (id int PRIMARY KEY, title text NOT NULL)")

    for arguments in (
        ("restore", "database", artifact),
        ("restore", "database"),
    ):
        new(*arguments, "--force").fails(2, "another server", "live on", "--from-database live")
    recovered = new("recover", "--only", "database", "--force")
    assert (recovered.code, new("recover", "--only", "database", "--plan").code) == (1, 1)
    assert "problem: " in recovered.out
    assert "To replace them, use --from-database live." in recovered.out
    new("restore", "database", artifact, "--table", "papers", "--mode", "missing").fails(2, "another server")
    new("restore", "database", "--from-database", "live", "--force").succeeds()


def test_a_url_without_a_database_is_an_error_that_says_what_to_write(refnet: Command, live: Live) -> None:
    bare = refnet.url.replace("/live?", "/?")
    assert bare != refnet.url
    replace(refnet, url=bare)("backup", "database").fails(2, "names no database", "/DATABASE")
