"""A proof keeps rows of many small values in one piece; its schema is still the artifact's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import fresh

from refnet.catalog.manifest import Level
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.proof import own_proof
from refnet.sources.database.proof.own_proof import Prover
from refnet.sources.database.workers import Workers

MOVED = """
SELECT c.relname::text, pg_relation_size(c.reltoastrelid) > 0, coalesce(array_to_string(c.reloptions, ','), '')
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""
COLUMNS = [f"c{number}" for number in range(80)]


def moved(target: Target) -> list[tuple[Any, ...]]:
    """Name of each table, whether it has values in another one, and its options."""
    with target.connect() as session:
        return session.execute(MOVED).fetchall()


@pytest.fixture(scope="module")
def odd_rows(server: Cluster, wheel: Binaries) -> Reader:
    """An artifact of tables whose rows are longer than 2 kB."""
    out = io.BytesIO()
    values = ", ".join(f"md5((g * {number})::text)" for number in range(1, 81))
    with fresh(server) as database:
        with database.connect() as session:
            for name, options in (("chosen", "WITH (toast_tuple_target=256, fillfactor=90)"), ("wide", "")):
                columns = ", ".join(f"{column} text" for column in COLUMNS)
                session.execute(f"CREATE TABLE {name} ({columns}) {options}".encode())
                session.execute(f"INSERT INTO {name} SELECT {values} FROM generate_series(1, 600) g".encode())
            session.execute("CREATE TABLE long (note text)")
            session.execute("ALTER TABLE long ALTER note SET STORAGE EXTERNAL")
            session.execute(
                "INSERT INTO long SELECT repeat(md5(g::text), 100) FROM generate_series(1, 600) g"
            )
        assert [row[1] for row in moved(database)] == [True, True, True]
        dump(database, out, Workers(wheel, 2))
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(out.getvalue()))


def test_wide_rows_stay_in_one_piece_and_the_schema_is_as_before(
    odd_rows: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, found = own_proof.load, list[Any]()

    def looked_at(reader: Reader, target: Target, *rest: Any) -> Any:
        left_out = load(reader, target, *rest)
        found.extend(moved(target))
        return left_out

    monkeypatch.setattr(own_proof, "load", looked_at)
    options = ProofOptions(short_folder / "scratch", lambda *_, **__: wheel, jobs=2)
    proof = Prover(odd_rows, wheel, options).prove(Level.PROVEN)
    assert proof.level is Level.PROVEN
    assert found == [
        ("chosen", True, "toast_tuple_target=256,fillfactor=90"),
        ("long", True, ""),
        ("wide", False, ""),
    ]
