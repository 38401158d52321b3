"""Databases with something in them, their artifacts, and a server on which a restore meets what it can meet."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import Target
from refnet.recovery.model.source import Held, silent
from refnet.recovery.sources.database import dump as dumping
from refnet.recovery.sources.database.artifact import Artifact

LIBRARY = """
CREATE TABLE papers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, year int);
CREATE TABLE citations (citing bigint REFERENCES papers, cited bigint REFERENCES papers, note text,
                        PRIMARY KEY (citing, cited));
CREATE INDEX ON citations (cited);
CREATE TABLE jobs (id int PRIMARY KEY, paper bigint REFERENCES papers, state text);
INSERT INTO papers (title, year) SELECT repeat(md5(i::text), 10) || i, 1950 + i % 70 FROM generate_series(1, 5000) i;
INSERT INTO citations SELECT i, 1 + i * 7 % 5000, repeat('x', 300) FROM generate_series(1, 5000) i;
INSERT INTO jobs SELECT i, i, 'done' FROM generate_series(1, 20) i;
"""


def artifact_of(target: Target, binaries: Binaries, name: str = "refnet_20261125_020000.sql.gz") -> bytes:
    """The bytes of an artifact of the database `target`."""
    out = io.BytesIO()
    dumping.dump(target, lambda _: binaries, out, 2, (), silent)
    return out.getvalue()


def held(content: bytes, name: str = "refnet_20261125_020000.sql.gz") -> Artifact:
    """That artifact, to be restored."""
    return Artifact(Held(name, lambda: io.BytesIO(content), None))


@pytest.fixture(scope="session")
def busy_server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server with prepared transactions and logical replication, superuser `refnet`."""
    settings = {"max_prepared_transactions": "5", "wal_level": "logical", "max_wal_senders": "4"}
    with scratch(wheel, base=short_folder / "busy", superuser="refnet", settings=settings) as cluster:
        yield cluster


@pytest.fixture
def make_database(busy_server: Cluster) -> Iterator[Callable[..., Target]]:
    """Makes a database on `busy_server`; whatever has its name in its own is dropped afterwards."""
    names: list[str] = []

    def make(script: str = LIBRARY, name: str = "") -> Target:
        names.append(name or f"library_{uuid.uuid4().hex[:8]}")
        target = busy_server.target(names[-1])
        with busy_server.target().connect() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(names[-1])))
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
def library(make_database: Callable[..., Target]) -> Target:
    """A small library on `busy_server`."""
    return make_database()
