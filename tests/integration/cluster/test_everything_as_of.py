"""The commands of a night and of the morning after, on a server whose WAL is archived."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.clusters import SETTINGS, commands
from tests.command import Command

from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster


@pytest.fixture
def server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(wheel, base=short_folder / "night", settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def refnet(short_folder: Path, server: Cluster) -> Iterator[Command]:
    with commands(server, short_folder, None, 'exclude = ["postgres"]') as found:
        yield found


def sql(server: Cluster, *statements: str, database: str = "shop") -> list[tuple[object, ...]]:
    with server.target(database).connect() as session:
        for one in statements:
            found = session.execute(one)
        return found.fetchall() if found.description else []


def test_a_night_a_mistake_and_the_morning_after(refnet: Command, server: Cluster) -> None:
    sql(server, "CREATE DATABASE shop", database="postgres")
    sql(server, "CREATE TABLE orders AS SELECT g AS i, 'order ' || g AS what FROM generate_series(1, 500) g")
    receiver = refnet.start("wal", "run", "main")
    try:
        assert until(lambda: refnet("wal", "status", "--json").code == 0, 60)
        first = refnet("backup", "main", "--json")
        assert first.code == 0, first.err
        sql(server, "INSERT INTO orders VALUES (501, 'late')")
        second = refnet("backup", "main-cluster", "--json")
        assert second.code == 0, second.out
        third = refnet("backup", "main-shop", "--json")
        assert third.code == 0, third.err
        ((before,),) = sql(server, "SELECT clock_timestamp()::text")
        sql(server, "DELETE FROM orders")
        sql(server, "CREATE TABLE marker ()")
        assert until(lambda: refnet("at", str(before), "--source", "main-shop", "--json").code == 0, 60)
        drilled = refnet("drill", "main-cluster", "--json")
        assert drilled.code == 0, drilled.out + drilled.err
        (result,) = drilled.json["sources"]
        assert result["level"] == "proven", result
        outcomes = {one["what"]: one["outcome"] for one in result["findings"]}
        assert outcomes["increments (pg_combinebackup)"] == "passed", result["findings"]
        done = refnet(
            "restore", "main-shop", "--at", str(before), "--table", "orders", "--mode", "replace", "--force"
        )
        assert done.code == 0, done.err
        assert sql(server, "SELECT count(*) FROM orders") == [(501,)]
    finally:
        receiver.send(signal.SIGTERM)
        receiver.end()
