"""SQLite as a program uses it: WAL, a writer beside the backup, a file of another user; sqlite3 of the system judges."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.command import Command
from tests.users import Ordinary

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer REFERENCES customers, note TEXT, data BLOB);
CREATE TABLE pairs (one, other, PRIMARY KEY (one, other)) WITHOUT ROWID;
CREATE INDEX by_note ON orders (note);
CREATE VIEW named AS SELECT name, note FROM orders JOIN customers ON customer = customers.id;
CREATE VIRTUAL TABLE words USING fts5(text);
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grete');
INSERT INTO orders SELECT 1000 + value, 1 + value % 2, 'note ' || value, randomblob(300) FROM generate;
INSERT INTO pairs SELECT value, -value FROM generate;
INSERT INTO words SELECT note FROM orders;
"""
#: Writes two rows in each transaction, a thousand times a second, until it is killed.
WRITER = """
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1], timeout=60) as writer:
    print("begins", flush=True)
    for number in range(10**9):
        writer.execute("INSERT INTO pairs VALUES (?, ?)", (number + 10**6, 0))
        writer.execute("INSERT INTO pairs VALUES (?, ?)", (number + 10**6, 1))
        writer.commit()
        time.sleep(0.001)
"""


def make(path: Path) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TEMP TABLE generate (value)")
        made.executemany("INSERT INTO generate VALUES (?)", [(n,) for n in range(500)])
        made.commit()
        made.executescript(SCHEMA)


def tables_of(path: Path) -> bytes:
    """The text of all that the system's sqlite3 reads."""
    if shutil.which("sqlite3") is None:
        pytest.skip("this machine has no sqlite3")
    done = subprocess.run(["sqlite3", "-readonly", path, ".dump"], capture_output=True, check=True)
    return done.stdout


@pytest.fixture
def live(short_home: Path) -> Path:
    folder = short_home / "srv"
    folder.mkdir(mode=0o700)
    make(folder / "app.db")
    return folder / "app.db"


@pytest.fixture
def refnet(short_home: Path, live: Path) -> Command:
    settings = short_home / "refnet.toml"
    settings.write_text(f'[databases.app]\npath = "{live}"\n')
    settings.chmod(0o600)
    environment = {"REFNET_CONFIG": str(settings), "REFNET_DATABASE_URL": ""}
    return Command(short_home / "home", short_home / "backups", "", environment)


@pytest.fixture
def writer(live: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, str(live)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield process
        process.kill()


def unpacked(refnet: Command, into: Path) -> Path:
    """The newest artifact, as `gunzip` makes it a database again."""
    artifact = refnet.backups / "app" / refnet.names()[0]
    with into.open("wb") as file:
        subprocess.run(["gunzip", "-c", artifact], stdout=file, check=True)
    return into


def test_the_systems_sqlite_reads_what_gunzip_unpacks_the_same(
    refnet: Command, live: Path, tmp_path: Path
) -> None:
    before = {one.name for one in live.parent.iterdir()}
    made = refnet("backup", "app")
    assert (made.code, "digested" in made.out) == (0, True), made.err
    assert {one.name for one in live.parent.iterdir()} == before
    assert tables_of(unpacked(refnet, tmp_path / "app.db")) == tables_of(live)


def test_a_snapshot_beside_a_writer_is_of_one_moment_and_stops_nobody(
    refnet: Command, live: Path, tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    for _ in range(3):
        made = refnet("backup", "app")
        assert (made.code, "proven" in made.out) == (0, True), made.out + made.err
    assert writer.poll() is None
    for name in refnet.names():
        (tmp_path / name).write_bytes(gzip.decompress((refnet.backups / "app" / name).read_bytes()))
        with closing(sqlite3.connect(tmp_path / name)) as found:
            assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ones, others = (
                found.execute(
                    f"SELECT count(*) FROM pairs WHERE other = {side} AND one >= 1000000"
                ).fetchone()
                for side in (0, 1)
            )
            assert ones == others


def test_nothing_is_restored_into_a_file_that_a_program_has_open(
    refnet: Command, live: Path, writer: subprocess.Popen[str]
) -> None:
    assert refnet("backup", "app").code == 0
    refnet("restore", "app", "--force").fails(1, "has", "open")
    writer.kill()
    writer.wait()
    (live.parent / "app.db-wal").stat()  # it was killed: what it wrote last is there
    with closing(sqlite3.connect(live)) as left:
        rows = left.execute("SELECT count(*) FROM pairs").fetchone()
    done = refnet("restore", "app", "--force")
    assert done.code == 0, done.err
    assert {one.name for one in live.parent.iterdir() if not one.name.startswith(".")} == {"app.db"}
    with closing(sqlite3.connect(live)) as used:
        used.execute("SELECT count(*) FROM pairs").fetchone()
        refnet("undo", "app", "--force").fails(1, "has", "open")
    refnet("undo", "app", "--force").succeeds()
    with closing(sqlite3.connect(live)) as left:
        assert left.execute("SELECT count(*) FROM pairs").fetchone() == rows


def test_a_hook_stops_the_program_before_a_restore(
    refnet: Command, live: Path, writer: subprocess.Popen[str]
) -> None:
    assert refnet("backup", "app").code == 0
    settings = live.parent.parent / "refnet.toml"
    settings.write_text(f'{settings.read_text()}before_restore = ["kill {writer.pid}"]\n')
    assert "a hook of before_restore must end that" in refnet("restore", "app", "--plan").out
    done = refnet("restore", "app", "--force")
    assert done.code == 0, done.err


def test_a_violated_foreign_key_of_the_source_is_named_and_no_damage(refnet: Command, live: Path) -> None:
    with closing(sqlite3.connect(live)) as made:
        made.execute("DELETE FROM customers WHERE id = 2")
        made.commit()
    told = refnet("backup", "app")
    assert (told.code, "foreign key orders → customers: 250 rows" in told.out + told.err) == (1, True), told
    assert refnet("list", "--json").json["artifacts"][0]["state"] == "proven"
    assert refnet("accept", refnet.names()[0]).code == 0
    assert refnet("backup", "app").code == 0


def test_an_index_that_does_not_fit_its_table_is_damage(refnet: Command, live: Path) -> None:
    with closing(sqlite3.connect(live)) as made:
        made.execute("PRAGMA writable_schema = ON")
        made.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX by_note ON orders (id)' WHERE name = 'by_note'"
        )
        made.commit()
    told = refnet("backup", "app")
    assert (told.code, "integrity_check" in told.out + told.err) == (4, True), told
    refnet("restore", "app", "--force").fails(1, "no complete artifact")


def test_a_missing_required_table_is_damage(refnet: Command, live: Path) -> None:
    assert refnet("backup", "app", REFNET_DATABASES_APP_REQUIRED_TABLES="orders").code == 0
    told = refnet("backup", "app", REFNET_DATABASES_APP_REQUIRED_TABLES="orders,bills")
    assert (told.code, "bills" in told.out + told.err) == (4, True), told


def test_what_a_program_brings_along_is_not_verified_and_no_damage(refnet: Command, live: Path) -> None:
    with closing(sqlite3.connect(live)) as made:
        made.create_collation("own", lambda one, other: (one > other) - (one < other))
        made.execute("CREATE TABLE titles (title TEXT COLLATE own)")
        made.execute("CREATE INDEX by_title ON titles (title)")
        made.execute("INSERT INTO titles VALUES ('b'), ('a')")
        made.commit()
    told = refnet("backup", "app")
    assert told.code in {0, 3}, told
    assert "no such collation" in told.out + told.err
    assert refnet("list", "--json").json["artifacts"][0]["state"] == "proven"


def test_a_link_is_not_followed(refnet: Command, live: Path) -> None:
    live.rename(live.with_name("real.db"))
    live.symlink_to("real.db")
    refnet("backup", "app").fails(1, "is reached by a symbolic link", "real.db")


def test_nothing_is_restored_through_a_link_in_place_of_its_folder(refnet: Command, live: Path) -> None:
    refnet("backup", "app", "--no-prove").succeeds()
    moved, other = live.parent.with_name("moved"), live.parent.with_name("other")
    live.parent.rename(moved)
    other.mkdir()
    live.parent.symlink_to(other)
    for words in (("restore", "app", "--force"), ("undo", "app", "--force")):
        assert "is reached by a symbolic link" in refnet(*words).err
    assert list(other.iterdir()) == []


def test_rollback_journals_and_interrupted_writes_are_read_as_sqlite_does(
    refnet: Command, live: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(live)) as made:
        made.execute("PRAGMA journal_mode = DELETE")
    text = tables_of(live)
    half = "import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 1');"
    half += "c.execute('DELETE FROM orders'); c.execute('SELECT * FROM pairs').fetchall(); os._exit(0)"
    subprocess.run([sys.executable, "-c", half, str(live)], check=True)
    made = refnet("backup", "app")
    assert (made.code, "counted" in made.out) == (0, True), "a writer would wait for digests"
    assert tables_of(unpacked(refnet, tmp_path / "app.db")) == text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as the owner")
def test_root_leaves_no_file_of_its_own_beside_that_of_another_user(
    refnet: Command, live: Path, ordinary: Ordinary
) -> None:
    for path in (live.parent, live):
        os.chown(path, ordinary.uid, ordinary.gid)
    live.chmod(0o640)
    for arguments in (("backup", "app"), ("diff", "app"), ("restore", "app", "--force"), ("backup", "app")):
        done = refnet(*arguments)
        assert done.code == 0, done.err
        found = {
            one.name: one.lstat().st_uid for one in live.parent.iterdir() if not one.name.startswith(".")
        }
        assert found == {"app.db": ordinary.uid}, arguments
    assert live.stat().st_mode & 0o777 == 0o640
    live.unlink()
    assert refnet("restore", "app").code == 0
    assert (live.stat().st_uid, live.stat().st_mode & 0o777) == (ordinary.uid, 0o640)


def test_a_golden_artifact_is_proven_and_restored_as_it_was_made(short_home: Path, refnet: Command) -> None:
    golden = Path(__file__).parents[2] / "golden" / "sqlite"
    shutil.copytree(golden / "backups", refnet.backups)
    verified = refnet("verify", "app", "--json").json["results"][0]
    assert (verified["level"], verified["compared"]) == ("proven", "digested"), verified
    assert refnet("restore", "app", "--to", short_home / "back.db").code == 0
    made = short_home / "made.db"
    subprocess.run(
        ["sqlite3", made], input=(golden / "app.sql").read_bytes(), check=True, capture_output=True
    )
    assert tables_of(short_home / "back.db") == tables_of(made)


def test_a_query_and_a_list_of_tables_read_the_artifact_and_nothing_live(refnet: Command, live: Path) -> None:
    assert refnet("backup", "app").code == 0
    live.unlink()
    asked = refnet(
        "query", "app", "SELECT note, data IS NULL AS none FROM orders ORDER BY id LIMIT 1", "--json"
    )
    assert asked.json["rows"] == [{"note": "note 0", "none": 0}]
    asked = refnet("query", "app", "SELECT 9e999 AS most, x'00ff' AS bytes, NULL AS none", "--json")
    assert asked.json["rows"] == [{"most": "inf", "bytes": "\\x00ff", "none": None}]
    refnet("query", "app", "SELECT 1 AS a, 2 AS a", "--json").fails(2, "are called a")
    shown = refnet("show", "app", "--tables", "--json")
    assert {one["name"]: one["rows"] for one in shown.json["tables"]}["orders"] == 500
    refnet("query", "app", "DELETE FROM orders").fails(1, "not authorized")
    refnet("browse", "app").fails(2, "refnet query")
    refnet("backup", "app", "--table", "orders").fails(2, "--table")
    copied = shutil.copy(refnet.backups / "app" / refnet.names()[0], live.with_name("copied.sqlite.gz"))
    assert "restored" in refnet("verify", copied).out
    assert "orders" in refnet("find", "app", "ord*").out
    assert json.loads(refnet("log", "app/orders", "--json").out)
