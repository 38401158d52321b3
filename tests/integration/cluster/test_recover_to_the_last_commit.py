"""`refnet recover`: databases come back as of the last commit that arrived, those that are newer than any artifact too."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tests.command import Command
from tests.integration.cluster.test_wal_in_a_store import Protected
from tests.wal_server import WalServer, wal_server

from refnet.postgres.binaries import Binaries
from refnet.sources.cluster import wal_offsite
from refnet.sources.cluster.wal_archive import WalArchive


@pytest.fixture
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "store") as found:
        yield found


class Shop:
    """A server with the database shop, whose machine is lost after an artifact and later commits were sent."""

    def __init__(self, server: WalServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.protected = Protected(server, folder)
        receiving, refnet = self.protected.receiving, self.protected.refnet
        file = folder / "home" / "refnet.toml"
        file.write_text(file.read_text().replace("replica@", "refnet@"))
        server.sql("DROP TABLE t", "CREATE DATABASE shop")  # the database postgres has no tables
        self.sql("shop", "CREATE TABLE orders (i int PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
        with receiving.running() as run:
            refnet("backup", "main", "--no-prove").succeeds()
            self.sql("shop", "INSERT INTO orders VALUES (2)")
            self.second = str(server.sql("SELECT clock_timestamp()")[0][0])
            server.sql("CREATE ROLE clerk", "CREATE DATABASE later OWNER clerk")
            server.sql('CREATE DATABASE "Später; 1"')
            self.sql("later", "CREATE TABLE notes AS SELECT 'new' AS t")
            self.sql("Später; 1", "CREATE TABLE notes AS SELECT 'as new' AS t")
            self.sql("shop", "INSERT INTO orders VALUES (3)")
            receiving.catch_up(run)
            receiving.until(run, lambda: wal_offsite.new_in(receiving.archive).live != "", "the live segment")
            refnet("copy", "main-cluster").succeeds()
            self.dumped = self.dump("shop")
            self.sql("shop", "INSERT INTO orders VALUES (4)")
            receiving.catch_up(run)
            self.report = receiving.report()

    def sql(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.server.conninfo(), dbname=database, autocommit=True) as session:
            for one in statements:
                found = session.execute(one.encode())
            return found.fetchall() if found.description else []

    def dump(self, database: str) -> list[str]:
        """What pg_dump writes of a database: its lines, in whatever order, without the key that is new in each text."""
        command = [
            self.server.binaries.tool("pg_dump"),
            f"--host={self.server.data.parent}",
            "--username=refnet",
        ]
        text = subprocess.run([*command, database], check=True, capture_output=True, text=True).stdout
        return sorted(line for line in text.splitlines() if "restrict " not in line)

    def lose(self) -> Command:
        """Lose the machine and the server; an empty one of each."""
        found = self.protected.lose()
        self.server.stop(signal.SIGKILL)
        shutil.rmtree(self.server.data)
        self.server.make()
        self.server.start()
        return found

    @property
    def given(self) -> tuple[object, ...]:
        """The arguments of a recovery from the store."""
        key = ("--identity-file", self.folder / "key", "--signer", self.protected.signer)
        return ("--from", "nas", *key, "--force")


@pytest.fixture
def shop(server: WalServer, short_folder: Path) -> Iterator[Shop]:
    yield Shop(server, short_folder / "lost")
    shutil.rmtree(short_folder / "lost")


def orders(shop: Shop) -> list[object]:
    return [one for (one,) in shop.sql("shop", "SELECT i FROM orders ORDER BY 1")]


def test_an_empty_machine_ends_at_the_last_commit_in_the_store(shop: Shop) -> None:
    refnet = shop.lose()
    done = refnet("recover", *shop.given, "--role-powers")
    assert done.code == 0, done.out + done.err
    assert orders(shop) == [1, 2, 3]
    assert shop.dump("shop") == shop.dumped
    assert shop.sql("later", "SELECT t FROM notes") == [("new",)]
    assert shop.sql("Später; 1", "SELECT t FROM notes") == [("as new",)]
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'later'"
    assert shop.server.sql(owner) == [("clerk",)]
    said = r"note: main-shop is restored from main-cluster_\S+ and WAL, with every commit up to "
    assert re.search(said, done.out)
    made = r"(main-shop_\S+) is made from main-cluster_\S+ and WAL: every commit up to (20\S+ \S+\+00:00)"
    (artifact, until), *_ = re.findall(made, done.out)
    assert "NOT" not in done.out
    listed = refnet("list", "main-shop", "--json").json["artifacts"]
    created = {one["name"]: one["created"] for one in listed}
    assert created[artifact] == until.replace(" ", "T")


def test_a_base_backup_of_the_lost_server_is_not_new_enough_for_the_new_one(shop: Shop) -> None:
    refnet = shop.lose()
    assert refnet("recover", *shop.given, "--role-powers").code == 0
    assert refnet("key", "new", "--machine").code == 0
    says = "is of another server than the one that answers"
    assert says in refnet("check").out
    for expected in (2, 2):  # the second time the new one is
        night = refnet("backup", "main-cluster", "--if-older", "60min")
        assert night.code == 0, night.out + night.err
        assert len([one for one in refnet.names() if one.startswith("main-cluster_")]) == expected, night.out
    assert says not in refnet("check").out


def test_an_interrupted_recovery_goes_on_with_what_it_made(shop: Shop) -> None:
    refnet = shop.lose()
    first = refnet("recover", *shop.given)  # a role needs a permission
    assert (first.code, orders(shop)) == (6, [1, 2, 3])
    assert re.search(r"WITHHELD: main-globals: \S+: ", first.out), first.out
    shop.sql("shop", "INSERT INTO orders VALUES (5)")
    second = refnet("recover", *shop.given, "--role-powers")
    assert second.code == 4, second.out + second.err  # it differs from what was restored
    made = re.findall(r"(main-\S+) is made from", first.out + second.out)
    assert len(made) == 4, made
    for name in made:
        assert f"{name} was restored before" in second.out
    assert orders(shop) == [1, 2, 3, 5]
    assert shop.sql("later", "SELECT t FROM notes") == [("new",)]


def test_a_recovery_to_a_time_ends_there(shop: Shop) -> None:
    refnet = shop.lose()
    done = refnet("recover", *shop.given, "--role-powers", "--at", shop.second)
    assert done.code == 0, done.out + done.err
    assert orders(shop) == [1, 2]
    assert shop.server.sql("SELECT count(*) FROM pg_database WHERE datname = 'later'") == [(0,)]


def test_databases_come_from_their_artifacts_without_the_cluster(shop: Shop) -> None:
    refnet = shop.lose()
    done = refnet("recover", *shop.given, "--role-powers", "--skip", "main-cluster")
    assert done.code == 1
    assert "NOT RESTORED: main-cluster: left out by --skip" in done.out
    assert orders(shop) == [1]


def test_wal_that_cannot_be_read_leaves_the_artifacts_and_is_said(shop: Shop) -> None:
    refnet = shop.lose()
    key = shop.given[2:-1]
    refnet("fetch", "main-cluster", "--store", "nas", *key).succeeds()
    [*segments, last] = sorted(refnet.backups.glob("cluster/*/wal/*/*.gz"))
    (segments or [last])[-1].write_bytes(b"damaged")
    done = refnet("recover", *shop.given, "--role-powers")
    assert done.code == 1
    assert "note: main-shop is restored from main-shop_" in done.out
    assert orders(shop) == [1]
    assert re.search(
        r"^NOT THE LAST COMMIT: main-shop: it is restored from main-shop_", done.out, re.MULTILINE
    )


def test_with_an_encrypted_backup_folder_nothing_that_was_made_stays_in_plain(shop: Shop) -> None:
    refnet = shop.lose()
    file = refnet.home / "refnet.toml"
    file.write_text(file.read_text().replace("[encryption]\n", "[encryption]\nlocal = true\n"))
    done = refnet("recover", *shop.given, "--role-powers")
    assert done.code == 0, done.out + done.err
    assert orders(shop) == [1, 2, 3]
    assert not [*shop.folder.glob("*/**/main-*.sql.gz")]


def test_a_database_that_another_source_names_is_no_new_one_of_the_cluster(shop: Shop) -> None:
    refnet = shop.lose()
    file = refnet.home / "refnet.toml"
    file.write_text(
        f'{file.read_text()}[databases.other]\nurl = "{shop.server.url.replace("replica@/postgres", "refnet@/later")}"\n'
    )
    done = refnet("recover", *shop.given, "--role-powers")
    assert orders(shop) == [1, 2, 3]
    assert "main-later_" not in done.out
    assert "NOT RESTORED: other: there is no artifact" in done.out
    assert done.code == 1


def test_a_receiver_that_promises_the_future_dates_no_artifact_there(shop: Shop) -> None:
    """Who can write in the backup folder can write its report."""
    refnet = shop.lose()
    refnet("fetch", "main-cluster", "--store", "nas", *shop.given[2:-1]).succeeds()
    [archive] = refnet.backups.glob("cluster/*")
    last = WalArchive(archive)
    report = replace(
        shop.report, received_until=datetime(2099, 1, 1, tzinfo=UTC), received_lsn=last.end(1).record
    )
    (archive / "receiver.json").write_text(report.to_json())
    done = refnet("recover", *shop.given, "--role-powers")
    assert orders(shop) == [1, 2, 3]
    assert "2099" not in done.out
    listed = refnet("list", "main-shop", "--json").json["artifacts"]
    assert max(one["created"] for one in listed) < "2099"
