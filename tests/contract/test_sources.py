"""What every kind of source must do: each verb, in the order in which a user meets them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import Command, url_of

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

_KEY = "recovery.key"


class Live(ABC):
    """A live source of one kind."""

    #: Its name, and its table in the settings.
    name: str
    table: str
    #: The arguments that read something in its newest artifact, and what they print; None: its kind has nothing to read.
    reads: tuple[tuple[str, ...], str] | None = None
    #: Whether two states of it can be compared, and a restore of it can be undone or written elsewhere.
    replaced: bool = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def change(self) -> None:
        """Lose something of it."""

    @abstractmethod
    def state(self) -> object:
        """Everything that a backup protects of it."""

    def elsewhere(self) -> tuple[str, object] | None:
        """The argument of --to, and what is there now; None: its kind is not restored to another place."""
        return None


class Notes(Live):
    name = "notes"
    reads = (("cat", "notes", "deep/b.md"), "another")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "notes"
        (self.path / "deep").mkdir(parents=True)
        (self.path / "a.md").write_text("one")
        (self.path / "deep" / "b.md").write_text("another")
        self.table = f'[folders.notes]\npath = "{self.path}"\n'

    def change(self) -> None:
        (self.path / "a.md").unlink()

    def state(self) -> object:
        return _files(self.path)

    def elsewhere(self) -> tuple[str, object]:
        return str(self.folder / "out"), _files(self.folder / "out")


def _files(folder: Path) -> dict[str, str]:
    return {
        str(one.relative_to(folder)): one.read_text() for one in sorted(folder.rglob("*")) if one.is_file()
    }


class Shop(Live):
    name = "shop"
    reads = (("query", "shop", "SELECT count(*) FROM orders"), "50")

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.table = f'[databases.shop]\nurl = "{url_of(cluster.target("shop"))}"\n'
        _run(cluster, "postgres", "CREATE DATABASE shop")
        _run(cluster, "shop", "CREATE TABLE orders AS SELECT g AS id FROM generate_series(1, 50) g")

    def change(self) -> None:
        _run(self.cluster, "shop", "DELETE FROM orders WHERE id > 7")

    def state(self) -> object:
        return _run(self.cluster, "shop", "SELECT count(*) FROM orders")

    def elsewhere(self) -> tuple[str, object]:
        there = _run(self.cluster, "postgres", "SELECT 1 FROM pg_database WHERE datname = 'out'")
        found = _run(self.cluster, "out", "SELECT count(*) FROM orders") if there else None
        return url_of(self.cluster.target("out")), found


class App(Live):
    name = "app"
    reads = (("query", "app", "SELECT count(*) FROM orders"), "50")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "srv" / "app.db"
        self.path.parent.mkdir()
        self.table = f'[databases.app]\npath = "{self.path}"\n'
        with closing(sqlite3.connect(self.path)) as made:
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            made.executemany("INSERT INTO orders VALUES (?)", [(one,) for one in range(1, 51)])
            made.commit()

    def change(self) -> None:
        with closing(sqlite3.connect(self.path)) as live:
            live.execute("DELETE FROM orders WHERE id > 7")
            live.commit()

    def state(self) -> object:
        return _rows(self.path)

    def elsewhere(self) -> tuple[str, object]:
        return str(self.folder / "out.db"), _rows(self.folder / "out.db")


def _rows(path: Path) -> list[tuple[int]] | None:
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as live:
        return live.execute("SELECT id FROM orders").fetchall()


class Roles(Live):
    name = "main-globals"
    replaced = False

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.table = f'[clusters.main]\nurl = "{url_of(cluster.target())}"\nexclude = ["shop", "out"]\n'
        _run(cluster, "postgres", "CREATE ROLE app LOGIN")

    def change(self) -> None:
        _run(self.cluster, "postgres", "DROP ROLE app")

    def state(self) -> object:
        return _run(self.cluster, "postgres", "SELECT rolname, rolcanlogin FROM pg_roles ORDER BY 1")


def _run(cluster: Cluster, database: str, statement: str) -> list[tuple[object, ...]]:
    with cluster.target(database).connect() as session:
        done = session.execute(statement)
        return done.fetchall() if done.description else []


@pytest.fixture(scope="module")
def cluster(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(wheel, base=short_folder / "contract") as made:
        yield made


@pytest.fixture(scope="module", params=["folder", "database", "sqlite", "roles"])
def live(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "folder":
        yield Notes(folder)
    elif request.param == "database":
        yield Shop(folder, cluster)
    elif request.param == "sqlite":
        yield App(folder)
    else:
        yield Roles(folder, cluster)


@pytest.fixture(scope="module")
def refnet(live: Live, short_folder: Path) -> Command:
    """The command with that source alone, a key, and a store for copies."""
    settings = live.folder / "refnet.toml"
    settings.write_text(live.table)
    settings.chmod(0o600)
    (live.folder / "nas").mkdir(mode=0o700)
    home, environment = short_folder / live.name, {"REFNET_CONFIG": str(settings), "REFNET_DATABASE_URL": ""}
    home.mkdir(mode=0o755)
    command = Command(home, live.folder / "backups", "", environment)
    made = command("key", "new", "--json").json
    (live.folder / _KEY).write_text(made["recovery_key"])
    (live.folder / _KEY).chmod(0o600)
    with settings.open("a") as file:
        file.write(
            f'[encryption]\nrecipients = {json.dumps([made["recipient"]])}\n[stores.nas]\nurl = "file://{live.folder}/nas"\n'
        )
    done = command("backup", live.name)
    assert (done.code, done.err) == (0, "")
    assert "proven" in done.out
    return command


def test_its_backup_is_listed_shown_and_verified(live: Live, refnet: Command) -> None:
    [name] = refnet.names()
    listed = refnet("list", "--json").json["artifacts"][0]
    assert (listed["source"], listed["state"]) == (live.name, "proven")
    shown = refnet("show", live.name)
    shown.succeeds()
    assert name in shown.out
    verified = refnet("verify", live.name, "--json")
    assert (verified.code, verified.json["results"][0]["level"]) == (0, "proven")


def test_its_content_is_read_or_the_kind_says_that_it_has_none(live: Live, refnet: Command) -> None:
    if live.reads is None:
        refnet("cat", live.name, "x").fails(2, "has no files")
        refnet("query", live.name, "SELECT 1").fails(2)
        return
    arguments, said = live.reads
    read = refnet(*arguments)
    assert (read.code, said in read.out) == (0, True), read.err


def test_what_was_lost_is_named_and_comes_back_and_the_restore_is_undone(live: Live, refnet: Command) -> None:
    before = live.state()
    live.change()
    lost = live.state()
    if live.replaced:
        assert refnet("diff", live.name).code == 4
    else:
        refnet("diff", live.name).fails(2, "not compared")
    planned = refnet("restore", live.name, "--plan")
    assert (planned.code, live.state()) == (0, lost)

    restored = refnet("restore", live.name, "--force")

    assert (restored.code, live.state()) == (0, before), restored.err
    if not live.replaced:
        refnet("undo", live.name, "--force").fails(2, "nothing to undo")
        return
    assert refnet("list", "--previous", "--json").json["previous_versions"][0]["source"] == live.name
    assert refnet("undo", live.name, "--force").code == 0
    assert live.state() == lost
    assert refnet("undo", live.name, "--force").code == 0
    assert live.state() == before


def test_it_is_restored_elsewhere_beside_what_is_live(live: Live, refnet: Command) -> None:
    if (place := live.elsewhere()) is None:
        pytest.skip("it is written to a server, and replaces nothing there")
    before = live.state()
    done = refnet("restore", live.name, "--to", place[0])
    assert (done.code, live.elsewhere(), live.state()) == (0, (place[0], before), before), done.err


def test_it_is_drilled_watched_copied_and_fetched(live: Live, refnet: Command) -> None:
    [name] = refnet.names()
    assert refnet("drill", name).code == 0
    checks = refnet("monitor", live.name, "--json").json["checks"]
    assert {one["source"] for one in checks} >= {live.name}
    assert not [one for one in checks if one["status"] in {"critical", "unknown"}]
    assert [one["name"] for one in refnet("list", "--store", "nas", "--json").json["artifacts"]] == [name]
    elsewhere = Command(live.folder / "other", live.folder / "fetched", "", refnet.environment)
    key = ("--identity-file", live.folder / _KEY, "--any-signer")
    assert elsewhere("fetch", live.name, "--store", "nas", *key).code == 0
    assert elsewhere.names() == [name]


def test_a_recovery_brings_it_back(live: Live, refnet: Command) -> None:
    before = live.state()
    live.change()
    done = refnet("recover", "--force")
    assert (done.code, live.state()) == (0, before), done.out + done.err


#: For each line, which has an environment and a source: the result of that task, or why there is none.
_TASKS = """
import json, os, sys, traceback
from refnet import tasks

for line in sys.stdin:
    environment, source = json.loads(line)
    if os.fork() == 0:
        os.environ.clear()
        os.environ.update(environment)
        try:
            said = tasks.backup_source.apply(args=[source]).get()
        except BaseException:
            said = {"outcome": traceback.format_exc()}
        print(json.dumps(said), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded the tasks, and does what it is told."""
    with subprocess.Popen(
        [sys.executable, "-c", _TASKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_a_task_backs_it_up_as_the_schedule_does(
    live: Live, refnet: Command, worker: subprocess.Popen[str]
) -> None:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(json.dumps([refnet.variables, live.name]) + "\n")
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline())["outcome"] == "done"


def test_its_artifacts_are_pruned_by_its_own_retention(live: Live, refnet: Command) -> None:
    planned = refnet("prune", live.name, "--plan", "--json")
    assert planned.code == 0, planned.err
    assert [one["source"] for one in planned.json["sources"]] == [live.name]
