"""PostgreSQL's own roles own tables, as in its regression tests: they cannot log in, and GRANT makes no member of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from tests.conftest import fresh
from tests.integration.database.library import artifact_of, held, restore
from tests.servers import OLDEST_AND_NEWEST

from refnet.catalog.manifest import Level, Outcome
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.proof_run import ProofOptions

OWNED = """
CREATE TABLE citations AS SELECT generate_series(1, 100) AS citing;
CREATE TABLE owned (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int CHECK (n > 0), d int DEFAULT 4);
INSERT INTO owned (n) SELECT generate_series(1, 100);
CREATE TABLE long AS SELECT i AS id, repeat('x', 400) AS pad FROM generate_series(1, 5000) i;
CREATE MATERIALIZED VIEW summed AS SELECT sum(n) FROM owned;
CREATE SCHEMA own AUTHORIZATION pg_database_owner;
ALTER TABLE owned OWNER TO pg_database_owner; ALTER TABLE long OWNER TO pg_database_owner;
ALTER MATERIALIZED VIEW summed OWNER TO pg_database_owner;
ALTER TABLE citations OWNER TO pg_read_all_data;
"""


@contextmanager
def _running(binaries: Binaries, request: pytest.FixtureRequest, folder: Path) -> Iterator[Cluster]:
    """A server of these programs: the one that all tests share, or else its own."""
    for shared in ("server", "system_server"):
        cluster: Cluster = request.getfixturevalue(shared)
        if cluster.binaries == binaries:
            yield cluster
            return
    with throwaway(binaries, base=folder / f"own-{os.urandom(4).hex()}") as cluster:
        yield cluster


@pytest.mark.parametrize("binaries", OLDEST_AND_NEWEST.values(), ids=map(str, OLDEST_AND_NEWEST))
def test_a_table_of_a_role_that_cannot_log_in_is_proven_and_restored(
    binaries: Binaries, short_folder: Path, request: pytest.FixtureRequest
) -> None:
    with _running(binaries, request, short_folder) as cluster, fresh(cluster) as target:
        with target.connect() as session:
            session.execute(OWNED)
        dump = held(artifact_of(target, binaries))
        proof = dump.prove(
            Level.PROVEN, ProofOptions(short_folder / "scratch", lambda *_, **__: binaries, jobs=2)
        )
        assert [one for one in proof.findings if one.outcome is not Outcome.PASSED] == []
        assert proof.level is Level.PROVEN
        done = restore(target, dump, binaries)
        with target.connect() as session:
            owners = session.execute(
                "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relowner IN"
                " (SELECT oid FROM pg_roles WHERE rolname ~ '^pg_') AND relkind IN ('r', 'm') ORDER BY 1"
            ).fetchall()
        with cluster.target().connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(done.previous or "")))
    assert owners == [
        ("citations", "pg_read_all_data"),
        *((name, "pg_database_owner") for name in ("long", "owned", "summed")),
    ]
