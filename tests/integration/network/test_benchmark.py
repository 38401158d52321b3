"""The benchmark's database and its own comparison of content."""

from __future__ import annotations

import pytest
from benchmarks import build

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


def test_the_databases_that_are_measured_have_the_shape_that_is_promised(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "LONG_ROWS", tuple(length // 16 for length in build.LONG_ROWS))
    plain = build.build(server, "bench_plain", build.shape(0.003, skew=False))
    skewed = build.build(server, "bench_skewed", build.shape(0.003, skew=True))
    try:
        long = sum(build.LONG_ROWS)
        assert 780e6 < (plain.text - long) / 0.003 < 860e6
        assert (skewed.largest * skewed.text) / (skewed.text - long) > 0.9
        assert build.build_short(server, "bench_short", 0.0005).rows == 5_000
    finally:
        build.drop(server, "bench_plain")
        build.drop(server, "bench_skewed")
        build.drop(server, "bench_short")
