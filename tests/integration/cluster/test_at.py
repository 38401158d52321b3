"""`refnet at TIME`, and `refnet restore main-shop --at TIME`: a database and a table as of any second."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.clusters import Live, commands, live
from tests.command import Command, url_of
from tests.documents import ROOT

from refnet.postgres.binaries import Binaries

_SETTINGS = """
SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'shop_before'
"""


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    with live(wheel, short_folder / "at") as found:
        found.sql("CREATE DATABASE shop", "ALTER DATABASE shop SET work_mem = '8MB'")
        found.sql("ALTER DATABASE shop SET session_preload_libraries = 'auto_explain'")
        found.sql(
            "CREATE TABLE orders (i int PRIMARY KEY, what text)",
            "INSERT INTO orders SELECT g, 'order ' || g FROM generate_series(1, 100) g",
            "CREATE TABLE clients AS SELECT 1 AS i",
            database="shop",
        )
        found.base()
        found.sql("UPDATE orders SET what = 'paid' WHERE i = 7", database="shop")
        found.before = found.now().isoformat()
        found.sql("DELETE FROM orders", database="shop")
        found.sql("INSERT INTO clients VALUES (2)", database="shop")
        found.arrived()
        found.names = found.publish()
        yield found


@pytest.fixture
def refnet(short_folder: Path, shop: Live) -> Iterator[Command]:
    with commands(shop.cluster, short_folder, shop.backups) as found:
        yield found


def test_one_table_as_of_a_second_is_written_to_a_file(refnet: Command, shop: Live, tmp_path: Path) -> None:
    done = refnet(
        "at", shop.before, "--source", "main-shop", "--table", "orders", "--into", tmp_path / "orders.csv"
    )
    assert done.code == 0, done.err
    lines = (tmp_path / "orders.csv").read_text().splitlines()
    assert lines[0] == "i,what"
    assert sorted(lines[1:]) == sorted(["7,paid", *(f"{i},order {i}" for i in range(1, 101) if i != 7)])
    assert "shop as of" in done.out
    again = refnet(
        "at", shop.before, "--source", "main-shop", "--table", "orders", "--into", tmp_path / "orders.sql"
    )
    assert again.code == 0, again.err
    assert "CREATE TABLE public.orders" in (tmp_path / "orders.sql").read_text()
    there = refnet(
        "at", shop.before, "--source", "main-shop", "--table", "orders", "--into", tmp_path / "orders.sql"
    )
    there.fails(2, "orders.sql exists", "a new file")
    nowhere = tmp_path / "nowhere" / "orders.sql"
    refnet("at", shop.before, "--source", "main-shop", "--table", "orders", "--into", nowhere).fails(
        2, f"there is no folder {nowhere.parent}"
    )


def test_a_database_that_the_settings_name_alone_comes_back_by_the_wal_of_its_server(
    short_folder: Path, shop: Live
) -> None:
    """As that of the stack in containers, which `database_url` names."""
    alone = ("[databases.mine]", f'url = "{url_of(shop.cluster.target("shop"))}"')
    with commands(shop.cluster, short_folder, shop.backups, *alone) as refnet:
        found = refnet("at", shop.before, "--source", "mine", "--json")
        assert found.code == 0, found.err
        assert [one["name"] for one in found.json["tables"]] == ["clients", "orders"]
        planned = refnet("restore", "mine", "--at", shop.before, "--plan", "--json")
        assert planned.json["recovery"]["base"] == shop.names[0], planned.err


def test_the_tables_of_a_moment_are_listed(refnet: Command, shop: Live) -> None:
    found = refnet("at", shop.before, "--source", "main-shop", "--json")
    assert found.code == 0, found.err
    assert [one["name"] for one in found.json["tables"]] == ["clients", "orders"]
    assert "orders" in refnet("at", "latest", "--source", "main-shop").out


def test_the_walk_of_the_document_brings_the_deleted_rows_back(refnet: Command, shop: Live) -> None:
    """Every command for a DELETE without WHERE, in its order."""
    text = (
        (ROOT / "docs" / "any-second.md")
        .read_text()
        .partition("## Somebody ran DELETE")[2]
        .partition("\n## ")[0]
    )
    lines = re.findall(r"^ *refnet (.+)$", text, re.MULTILINE)
    assert len(lines) == 4
    assert shop.sql("SELECT count(*) FROM orders", database="shop") == [(0,)]
    for line in lines:
        words = [shop.before if word.startswith("2026-11-25 ") else word for word in shlex.split(line)]
        done = refnet(*words)
        assert done.code == 0, f"{line}: {done.err}"
    (said,) = re.findall(r"_as_of_([0-9_]{15})\.sql\.gz of ([0-9: -]{19})", done.out)
    assert said[0] == said[1].replace("-", "").replace(":", "").replace(" ", "_")  # not the time of the dump
    assert shop.sql("SELECT count(*) FROM orders", database="shop") == [(100,)]
    assert shop.sql("SELECT count(*) FROM clients", database="shop") == [(2,)]
    planned = refnet("restore", "main-shop", "--at", shop.before, "--as", "shop_before", "--json")
    assert planned.code == 0, planned.err
    assert shop.sql(_SETTINGS) == [(["work_mem=8MB"],)]
    undone = refnet("undo", "main-shop", "--force")
    assert undone.code == 0, undone.err


def test_a_time_after_the_end_of_the_wal_restores_no_older_artifact(refnet: Command, shop: Live) -> None:
    """The WAL ends nearer to that time than any artifact does."""
    assert refnet("backup", "main").code == 0
    shop.sql("INSERT INTO clients VALUES (3)", database="shop")
    shop.arrived()
    later = f"{shop.now().year + 1}-01-01T00:00:00Z"
    done = refnet("restore", "main-shop", "--at", later, "--force")
    done.fails(1, "is later than what the archive has", "Give 2", "or an earlier time")
    assert shop.sql("SELECT count(*) FROM clients WHERE i = 3", database="shop") == [(1,)]


def test_a_plan_says_what_it_takes_and_recovers_nothing(refnet: Command, shop: Live) -> None:
    moment = datetime.fromisoformat(shop.before).astimezone()
    name = f"main-shop_as_of_{moment:%Y%m%d_%H%M%S}.sql.gz"
    asked = ("restore", "main-shop", "--at", shop.before, "--plan")
    done = refnet(*asked, "--table", "orders", "--mode", "missing")
    assert done.code == 0, done.err
    assert f" from {name}, mode missing:" in done.out
    assert re.search(r"^with: \d+ segments? of WAL ", done.out, re.MULTILINE), done.out
    whole = refnet(*asked, "--json").json
    assert (whole["artifact"], whole["database"], whole["problems"]) == (name, "shop", [])
    assert (whole["recovery"]["base"], whole["recovery"]["stops_at"]) == (
        shop.names[0],
        shop.before.replace("T", " "),
    )
    assert whole["steps"][0].startswith("recover the server to ")
    assert "compare the copy with the backup" in whole["steps"]
    beside = refnet(*asked, "--as", "shop", "--json")
    assert "exists already" in beside.json["problems"][0]["message"]
    assert (beside.code, done.code) == (2, 0)
    assert not (refnet.home / "scratch").exists()


def test_a_cluster_is_no_database(refnet: Command) -> None:
    refnet("at", "latest", "--source", "main-cluster").fails(
        2, "main-cluster is not a database", "restore main-cluster --into DIR"
    )
