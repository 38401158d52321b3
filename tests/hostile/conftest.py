"""A real artifact for attackers to start from."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator

import pytest
from psycopg import sql

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.workers import Workers

#: Tables of every kind of member, a sequence, a materialized view, a large object.
_SMALL = """
CREATE TABLE papers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
INSERT INTO papers (title) SELECT repeat(md5(i::text), 10) || i FROM generate_series(1, 5000) i;
CREATE TABLE notes (id serial PRIMARY KEY, paper bigint REFERENCES papers, note text);
INSERT INTO notes (paper, note) SELECT i, 'note ' || i FROM generate_series(1, 20) i;
CREATE MATERIALIZED VIEW titles AS SELECT id, left(title, 20) AS title FROM papers;
SELECT lo_from_bytea(0, 'large');
"""


@pytest.fixture(scope="session")
def small_database(server: Cluster) -> Iterator[Target]:
    """A small database; tests read it only."""
    name = f"small_{uuid.uuid4().hex[:8]}"
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    target = server.target(name)
    with target.connect() as session:
        session.execute(_SMALL)
    yield target
    with server.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def genuine(server: Cluster, small_database: Target) -> bytes:
    """The artifact of `small_database`."""
    out = io.BytesIO()
    dump(small_database, out, Workers(server.binaries, 2))
    return out.getvalue()
