"""Databases with something in them, their artifacts, and a server on which a restore meets what it can meet."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from tests.integration.database.library import LIBRARY, SMALL_LIBRARY, built
from tests.integration.database.shelf import SHELF, reader

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.sqlgz import Reader


@pytest.fixture(scope="session")
def busy_server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server with prepared transactions and logical replication, superuser `refnet`."""
    settings = {"max_prepared_transactions": "5", "wal_level": "logical", "max_wal_senders": "4"}
    with throwaway(wheel, base=short_folder / "busy", settings=settings) as cluster:
        yield cluster


@contextmanager
def making(busy_server: Cluster) -> Iterator[Callable[..., Target]]:
    """Makes databases on `busy_server`; whatever has the name of one in its own is dropped afterwards.

    `often`: several tests use the script, so it runs once, and they get copies.
    """
    names: list[str] = []

    def make(script: str = LIBRARY, name: str = "", *, often: bool = False) -> Target:
        names.append(name or f"library_{uuid.uuid4().hex[:8]}")
        if often or script in {LIBRARY, SMALL_LIBRARY, SHELF}:
            return built(busy_server, names[-1], script)
        target = busy_server.target(names[-1])
        with busy_server.target().connect() as admin:
            made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY FILE_COPY")
            admin.execute(made.format(sql.Identifier(names[-1])))
        with target.connect() as session:
            session.execute(script)
        return target

    yield make
    with busy_server.target().connect() as admin:
        for name in names:
            for (one,) in admin.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}%",)
            ).fetchall():
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


@pytest.fixture
def make_database(busy_server: Cluster) -> Iterator[Callable[..., Target]]:
    """Makes a database on `busy_server` for one test."""
    with making(busy_server) as make:
        yield make


@pytest.fixture
def library(make_database: Callable[..., Target]) -> Target:
    """A library on `busy_server`, whose tables RefNet copies."""
    return make_database()


@pytest.fixture
def small_library(make_database: Callable[..., Target]) -> Target:
    """The same with few rows, which pg_dump copies."""
    return make_database(SMALL_LIBRARY)


@pytest.fixture
def shelf(make_database: Callable[..., Target]) -> Target:
    return make_database(SHELF, "shelf")


@pytest.fixture(scope="module")
def backup(busy_server: Cluster, wheel: Binaries) -> Reader:
    """The artifact of a shelf like it, which had the same name."""
    with making(busy_server) as make:
        return reader(make(SHELF, "shelf"), wheel)
