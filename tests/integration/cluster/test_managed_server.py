"""A server that lets nobody replicate, as managed ones: its databases are backed up, and what does not work is said."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command
from tests.wal_server import Receiving, WalServer, wal_server

from refnet.postgres.binaries import Binaries

_REVOKE = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"


@pytest.fixture(scope="module", params=["", _REVOKE], ids=["no replication", "no control data either"])
def server(
    wheel: Binaries, short_folder: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[WalServer, str]]:
    with wal_server(wheel, short_folder / "managed") as found:
        found.sql(
            "ALTER ROLE replica NOREPLICATION", "GRANT pg_read_all_data TO replica", "CREATE DATABASE shop"
        )
        if request.param:
            found.sql(request.param)
        (found.data / "pg_hba.conf").write_text("local all all trust\n")
        found.sql("SELECT pg_reload_conf()")
        yield found, request.param


@pytest.fixture
def refnet(server: tuple[WalServer, str], short_home: Path, tmp_path: Path) -> Command:
    return Receiving.of(server[0], short_home, tmp_path / "backups").refnet


def test_its_databases_are_backed_up_and_the_base_backup_says_why_it_is_not(
    server: tuple[WalServer, str], refnet: Command
) -> None:
    made = refnet("backup", "main")
    made.fails(
        1, "main-cluster", "wal = false", "pg_control_system" if server[1] else "replication connection"
    )
    assert "main-shop" in made.out
    listed = refnet("list", "--json").json["artifacts"]
    assert {one["source"] for one in listed} == {"main-shop", "main-postgres", "main-globals"}
    assert {one["state"] for one in listed} == {"proven"}
    watched = refnet("monitor", "--json")
    assert watched.code == 1
    wrong = {one["source"] for one in watched.json["checks"] if one["status"] == "warning"}
    assert wrong == {"main-cluster"}


def test_check_names_the_remedy_and_the_way_without(server: tuple[WalServer, str], refnet: Command) -> None:
    said = refnet("check")
    assert said.code == 2
    hint = " ".join(said.out.split())
    assert ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO replica;" in hint) == bool(server[1])
    assert "wal = false" in hint


def test_a_receiver_says_why_it_waits_and_ends_when_it_is_stopped(refnet: Command) -> None:
    nothing = refnet("wal", "status")
    assert (nothing.code, "`refnet check`" in nothing.out) == (0, True), nothing.out
    run = refnet.start_alone("wal", "run")
    assert run.process.stdout
    assert b"wal = false" in run.process.stdout.readline()
    run.send(signal.SIGTERM)
    ended = run.end()
    assert (ended.code, ended.err) == (0, "")
