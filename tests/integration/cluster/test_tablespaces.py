"""A server with tablespaces: one tar that stock tools read, a restored folder of its own, and the live one's is left alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.clusters import SETTINGS, answer, commands
from tests.command import Command

from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster

pytestmark = pytest.mark.usefixtures("no_postgres_variables")
_COUNT = "SELECT count(*) FROM orders"
_AT = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'"


@dataclass
class Shop:
    """A server with a database whose table and index are in a tablespace, and base backups: a full and an increment."""

    cluster: Cluster
    refnet: Command
    #: The folder of the tablespace.
    fast: Path
    names: list[str]

    def sql(self, *statements: str, database: str = "shop") -> None:
        with self.cluster.target(database).connect() as session:
            for one in statements:
                session.execute(one)

    @property
    def paths(self) -> list[Path]:
        return [self.refnet.backups / "main-cluster" / name for name in self.names]

    def back_up(self, *more: str) -> str:
        made = self.refnet("backup", "main-cluster", "--json", *more)
        made.succeeds()
        return str(made.json["results"][0]["manifest"]["name"])


def made_folder(path: Path) -> Path:
    """A folder of the server's user."""
    path.mkdir()
    account().own(path)
    return path


@pytest.fixture(scope="module")
def shop(wheel: Binaries, short_folder: Path) -> Iterator[Shop]:
    with (
        throwaway(wheel, base=short_folder / "spaces", settings=SETTINGS) as cluster,
        commands(cluster, short_folder) as refnet,
    ):
        found = Shop(cluster, refnet, made_folder(short_folder / "fast"), [])
        found.sql(
            f"CREATE TABLESPACE fast LOCATION '{found.fast}'", "CREATE DATABASE shop", database="postgres"
        )
        rows = "SELECT g AS i, repeat('x', 200) AS x FROM generate_series(1, 5000) g"
        found.sql(f"CREATE TABLE orders TABLESPACE fast AS {rows}")
        found.sql("CREATE INDEX ON orders (i) TABLESPACE fast")
        found.names.append(found.back_up())
        found.sql("UPDATE orders SET x = 'y' WHERE i = 7", "INSERT INTO orders VALUES (5001, '')")
        found.names.append(found.back_up())
        yield found
    shutil.rmtree(short_folder / "fast")


@pytest.fixture
def place(shop: Shop) -> Iterator[Path]:
    """Where a data folder is restored."""
    yield shop.refnet.home.parent / "data"
    shutil.rmtree(shop.refnet.home.parent / "data", ignore_errors=True)


def test_a_base_is_one_tar_without_links_and_is_proven_by_a_recovery(shop: Shop) -> None:
    for path in shop.paths:
        with tarfile.open(path) as tar:
            members = {one.name: one for one in tar}
        assert [*members][-1] == "backup_manifest"
        assert all(one.isfile() or one.isdir() for one in members.values())
        inside = [
            one for one in members if re.fullmatch(r"pg_tblspc/\d+/PG_\d+_\d+/\d+/(INCREMENTAL\.)?\d+", one)
        ]
        assert len(inside) == 4, inside  # a table with its TOAST table, and the index of each
    listed = shop.refnet("list", "main-cluster", "--json").json["artifacts"]
    assert [one["state"] for one in listed] == ["restored", "restored"]
    assert listed[1]["notes"][0] == f"increment of {shop.names[0]}"
    assert listed[1]["size"] < listed[0]["size"] / 2


def test_postgresqls_own_tools_verify_and_combine_what_tar_unpacks(
    shop: Shop, wheel: Binaries, tmp_path: Path
) -> None:
    for number, path in enumerate(shop.paths):
        folder = tmp_path / str(number)
        folder.mkdir()
        subprocess.run(["tar", "-xzf", path, "-C", folder], check=True)
        subprocess.run([wheel.tool("pg_verifybackup"), "--no-parse-wal", "-q", folder], check=True)
    combined = [wheel.tool("pg_combinebackup"), tmp_path / "0", tmp_path / "1", "-o", tmp_path / "combined"]
    subprocess.run(combined, check=True, capture_output=True)
    (table,) = (tmp_path / "combined" / "pg_tblspc").iterdir()
    assert table.is_dir()
    assert not table.is_symlink()


def test_a_restored_server_has_its_tablespace_in_its_own_folder(shop: Shop, place: Path) -> None:
    restored = shop.refnet("restore", "main-cluster", "--latest", "--into", place, "--json")
    assert restored.code == 0, restored.err
    assert restored.json["chain"] == shop.names
    assert answer(restored.json, place, _COUNT, "shop") == "5001"
    assert answer(restored.json, place, "SELECT x FROM orders WHERE i = 7", "shop") == "y"
    assert answer(restored.json, place, _AT, "shop").startswith("pg_tblspc/")
    assert all(one.is_dir() and not one.is_symlink() for one in (place / "pg_tblspc").iterdir())
    assert str(shop.fast) in (place / "refnet-from-backup" / "tablespace_map").read_text()
    assert not (place / "tablespace_map").exists()
    conf = (place / "postgresql.conf").read_text()
    assert "allow_in_place_tablespaces = on" in conf


def test_a_drill_compares_tablespaces_with_what_pg_combinebackup_makes(shop: Shop) -> None:
    drilled = shop.refnet("drill", "main-cluster", "--json")
    assert drilled.code == 0, drilled.err
    (found,) = drilled.json["sources"]
    outcomes = {one["what"]: one["outcome"] for one in found["findings"]}
    assert outcomes["increments (pg_combinebackup)"] == "passed"
    assert outcomes["recovery in an empty folder"] == "passed"


@pytest.mark.parametrize("walled", [True, False])
def test_a_recovery_leaves_the_folder_of_a_tablespace_of_the_live_server_alone(
    shop: Shop, short_folder: Path, place: Path, walled: bool
) -> None:
    """The WAL would have the server make a link to it, and write there."""
    later = made_folder(short_folder / f"later{walled}")
    shop.sql(f"CREATE TABLESPACE {later.name} LOCATION '{later}'")
    shop.sql(f"CREATE TABLE made{walled} TABLESPACE {later.name} AS SELECT 1 AS i")
    shop.back_up("--no-prove")  # brings that WAL
    before = {one: one.stat().st_mtime_ns for one in later.rglob("*")}
    without = {} if walled else {"PATH": str(place)}  # neither bwrap nor unshare is found
    restored = shop.refnet("restore", "main-cluster", shop.names[1], "--latest", "--into", place, **without)
    restored.fails(1, "a tablespace was created after the base backup", "refnet backup")
    assert {one: one.stat().st_mtime_ns for one in later.rglob("*")} == before
    assert before
    assert not place.exists()
    whole = shop.refnet("restore", "main-cluster", "--latest", "--into", place, "--json")
    assert answer(whole.json, place, f"SELECT i FROM made{walled}", "shop") == "1"


def test_a_full_disk_below_the_home_is_said_and_nothing_stays(
    shop: Shop, mounted: Callable[..., Path], short_folder: Path
) -> None:
    disk = mounted(short_folder / "small", "size=7m,mode=711")
    small = replace(shop.refnet, home=disk / "home")
    (disk / "refnet.toml").write_text((shop.refnet.home.parent / "refnet.toml").read_text())
    (disk / "refnet.toml").chmod(0o600)
    before = shop.refnet.names()
    small("backup", "main-cluster", "--full").fails(
        1, f"{disk}/home/scratch", "no space left", "the disk of this machine"
    )
    assert not [*(disk / "home" / "scratch").glob("refnet-private-*")]
    assert shop.refnet.names() == before
