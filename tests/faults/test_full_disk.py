"""A disk that fills up while a copy is loaded: the copy goes, and nothing else."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from tests.command import Command, url_of
from tests.faults.conftest import fill

from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target
from refnet.sources.sqlite.box import box

#: Little text that takes a lot of room: 8 MB of rows, 33 MB with its indexes.
_NARROW = """
CREATE TABLE narrow (a int PRIMARY KEY, b int, c int);
INSERT INTO narrow SELECT i, i * 7919 % 200000, i % 977 FROM generate_series(1, 200000) i;
CREATE INDEX ON narrow (b, a); CREATE INDEX ON narrow (c, b); CREATE INDEX ON narrow (c, a, b);
"""


def _restore_fails(cluster: Cluster, refnet: Command, live: Target) -> str:
    """A restore ends for want of room and leaves the server and the live database as they were; what it said."""
    with live.connect() as session:
        session.execute("DELETE FROM narrow WHERE a > 10")
    pid = cluster.pid()
    ended = refnet("restore", "database", "--force")
    ended.fails(1, "Free space where the server keeps its data")
    assert cluster.pid() == pid
    assert until(lambda: _answers(live), 30)  # a server without room for its WAL recovers first
    with live.connect() as session:
        assert session.execute("SELECT count(*) FROM narrow").fetchone() == (10,)
        session.execute("INSERT INTO narrow VALUES (0)")
    return ended.err


def _answers(target: Target) -> bool:
    try:
        with target.connect():
            return True
    except ConnectError:
        return False


def _databases(cluster: Cluster) -> list[str]:
    with cluster.target().connect() as admin:
        found = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'live%' ORDER BY 1")
        return [name for (name,) in found.fetchall()]


@pytest.fixture(scope="module")
def narrow(server: Cluster) -> Iterator[str]:
    """What the database `live` is a copy of."""
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE narrow TEMPLATE template0")
        with server.target("narrow").connect() as session:
            session.execute(_NARROW)
        yield "narrow STRATEGY FILE_COPY"
        admin.execute("DROP DATABASE narrow")


@pytest.fixture
def small_space(
    server: Cluster, narrow: str, mounted: Callable[..., Path], short_folder: Path
) -> Iterator[Path]:
    """The disk of the tablespace `small`, which has not room for two of the database `live`."""
    disk = mounted(Path(tempfile.mkdtemp(dir=short_folder)), "size=58m,mode=0755")
    space = disk / "space"
    space.mkdir()
    server.account.own(space)
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(space))))
        admin.execute(f"CREATE DATABASE live TEMPLATE {narrow} TABLESPACE small".encode())
        yield disk
        for name in _databases(server):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute("DROP TABLESPACE small")


def test_a_full_tablespace_ends_a_restore_and_nothing_else(
    server: Cluster, small_space: Path, short_home: Path, tmp_path: Path
) -> None:
    assert small_space.is_dir()
    refnet = Command(short_home, tmp_path / "backups", url_of(server.target("live")))
    refnet("backup", "database", "--no-prove").succeeds()
    with server.target().connect() as admin:
        admin.execute("CHECKPOINT")
    before = _databases(server)
    _restore_fails(server, refnet, server.target("live"))
    assert _databases(server) == before


@pytest.mark.parametrize("size", [45, 52, 58, 64])
def test_a_disk_that_is_full_during_a_proof_is_no_damage(
    server: Cluster,
    narrow: str,
    mounted: Callable[..., Path],
    short_folder: Path,
    tmp_path: Path,
    size: int,
) -> None:
    """Whether the scratch server meets it in rows, in an index or in its WAL, which ends it."""
    home = mounted(Path(tempfile.mkdtemp(dir=short_folder)), f"size={size}m,mode=0755")
    refnet = Command(home, tmp_path / "backups", url_of(server.target("live")))
    with server.target().connect() as admin:
        admin.execute(f"CREATE DATABASE live TEMPLATE {narrow}".encode())
        try:
            made = refnet("backup", "database")
        finally:
            admin.execute("DROP DATABASE live WITH (FORCE)")
    assert (made.code, made.err) == (3, "")
    assert "could not verify" in made.out
    assert ": intact, NOT proven: " in made.out.splitlines()[-1]
    assert "could not verify beyond intact" in refnet("monitor", "database").out
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["state"] == "intact"
    assert list(home.rglob("scratch-*")) == []


@pytest.fixture
def full(wheel: Binaries, mounted: Callable[..., Path], short_folder: Path) -> Iterator[Cluster]:
    """A server whose whole data folder, its WAL included, lies on a small disk."""
    disk = mounted(Path(tempfile.mkdtemp(dir=short_folder)), "size=170m,mode=0755")
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB", "shared_buffers": "16MB"}
    with throwaway(wheel, base=disk / "servers", settings=settings) as cluster:
        yield cluster


def test_a_full_data_folder_ends_a_restore_and_nothing_else(
    full: Cluster, short_home: Path, tmp_path: Path
) -> None:
    with full.target().connect() as admin:
        admin.execute("CREATE DATABASE live TEMPLATE template0")
    live = full.target("live")
    with live.connect() as session:
        session.execute(_NARROW)
        session.execute("CHECKPOINT")
    refnet = Command(short_home, tmp_path / "backups", url_of(live))
    refnet("backup", "database", "--no-prove").succeeds()
    fill(full.data.parents[2], free=27 << 20)
    said = _restore_fails(full, refnet, live)
    left = [name for name in _databases(full) if name != "live"]
    assert all(name in said for name in left), (
        "a disk without room for a checkpoint keeps the copy, which is named"
    )
    (full.data.parents[2] / "filler").unlink()
    refnet("restore", "database", "--force").succeeds()
    assert not [name for name in _databases(full) if "_copy_" in name]


@pytest.mark.parametrize("free", [64 << 10, 0])
def test_a_full_home_is_no_fault_of_a_database_of_sqlite(
    mounted: Callable[..., Path], short_folder: Path, tmp_path: Path, free: int
) -> None:
    home = mounted(Path(tempfile.mkdtemp(dir=short_folder)), "size=1m,mode=0755")
    live = tmp_path / "app.db"
    with sqlite3.connect(live) as session:
        session.execute("CREATE TABLE t AS SELECT zeroblob(2000000)")
    (home / "scratch").mkdir()
    fill(home, free=free)
    with (
        pytest.raises(RefnetError, match=f"no space left in {home}"),
        box(home / "scratch", "app", live) as own,
    ):
        own.live(live, copy=True)
