"""Nights of everything at once: a server with its WAL, its databases, folders, SQLite, and copies to an object store.

An object store's client has threads. A night that forks after them hangs for ever, with its snapshots open.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.seaweed import BUCKET, Seaweed, credentials_file, seaweed
from tests.wal_server import Receiving, WalServer, wal_server

from refnet.core.processes import found
from refnet.postgres.binaries import Binaries

_DATABASES = ("shop", "wiki", "mail")
#: A night of this little takes a few seconds; the fault never ended.
_SECONDS = 120.0
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("objects") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "nights") as running:
        running.sql("GRANT pg_read_all_data TO replica", *(f"CREATE DATABASE {name}" for name in _DATABASES))
        yield running


@pytest.fixture
def receiving(server: WalServer, objects: Seaweed, short_folder: Path) -> Receiving:
    """A machine that protects the server, two folders and a database of SQLite, with a store."""
    place = short_folder / "machine"
    place.mkdir(mode=0o711)
    for name in ("home", "backups", "notes", "photos"):
        (place / name).mkdir()
    (place / "photos" / "one.jpg").write_bytes(bytes(1000))
    with sqlite3.connect(place / "app.db") as app:
        app.execute("CREATE TABLE t AS SELECT 1 AS i")
    machine = Receiving.of(server, place / "home", place / "backups")
    made = machine.refnet("key", "new", "--json").json
    with (place / "home" / "refnet.toml").open("a") as file:
        file.write(
            f'[folders.notes]\npath = "{place}/notes"\n[folders.photos]\npath = "{place}/photos"\n'
            f'[databases.app]\npath = "{place}/app.db"\n'
            f"[encryption]\nrecipients = [{json.dumps(made['recipient'])}]\n"
            f'[stores.s3]\nurl = "s3://{BUCKET}/nights"\nendpoint = "{objects.endpoint}"\n'
            f'credentials_file = "{credentials_file(place / "writer.toml", objects.writer)}"\n'
            f'[postgres]\nbin_dir = "{server.binaries.folder}"\n'
        )
    return machine


def test_three_nights_in_a_row_end_with_copies_and_leave_no_session_and_no_process(
    receiving: Receiving, server: WalServer
) -> None:
    refnet, place = receiving.refnet, receiving.refnet.home.parent
    names = {
        *(f"main-{name}" for name in _DATABASES),
        "main-cluster",
        "main-globals",
        "notes",
        "photos",
        "app",
    }
    with receiving.running() as receiver:
        for night in range(3):
            (place / "notes" / f"{night}.md").write_text(f"night {night}")
            server.sql("INSERT INTO t VALUES (1, 'a row')")
            receiving.catch_up(receiver)
            run = refnet.start_alone("backup", "--json")
            try:
                out, err = run.process.communicate(timeout=_SECONDS)
            finally:
                run.process.kill()
            assert run.process.returncode in {0, 3}, err  # a base backup may have nothing to compare with
            results = json.loads(out)["results"]
            assert names <= {one["source"] for one in results}
            assert all(one["copies"] and not any(copy["error"] for copy in one["copies"]) for one in results)
            assert server.sql(_SESSIONS) == [(0,)]
    programs = str(refnet.home.parent).encode()
    assert found(lambda one: programs in (one / "environ").read_bytes()) == []
