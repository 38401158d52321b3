"""The benchmark's database and its own comparison of content."""

from __future__ import annotations

import pytest
from benchmarks import build
from benchmarks.shapes import SHAPES, SKEWED, build_shape

from refnet.demo.sample import Shape, make
from refnet.network.migrate import migrate
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


def test_one_changed_row_is_another_content(database: Target) -> None:
    migrate(database)
    make(database, Shape(60))
    before = build.content(database)
    with database.connect() as connection:
        connection.execute("UPDATE papers SET year = year + 1 WHERE id = 30")
        changed = build.content(database)
        connection.execute("UPDATE papers SET year = year - 1 WHERE id = 30")
    assert changed != before
    assert build.content(database) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_a_database_is_made_in_each_shape_and_the_same_from_the_same_seed(
    server: Cluster, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(build, "LONG_ROWS", tuple(length // 16 for length in build.LONG_ROWS))
    try:
        one, other, another = (
            build_shape(server, f"bench_{number}", shape, scale=0.0008, seed=seed)
            for number, seed in enumerate((1, 1, 2))
        )
        contents = [build.content(server.target(f"bench_{number}")) for number in range(3)]
        assert one.rows == other.rows > 0 < another.rows
        assert contents[0] == contents[1] != contents[2]
    finally:
        for number in range(3):
            build.drop(server, f"bench_{number}")


def test_one_table_of_a_skewed_database_has_most_of_its_bytes(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "LONG_ROWS", (10,))
    try:
        assert build_shape(server, "bench_skewed", SKEWED, scale=0.003, seed=1).largest > 0.9
    finally:
        build.drop(server, "bench_skewed")
