"""Made-up networks in a real database: repeatable, whole, and marked as made up."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.network.crawling import network

from refnet.core.errors import RefnetError
from refnet.demo.sample import Shape, make
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


@pytest.fixture
def another(server: Cluster) -> Iterator[Target]:
    """A second migrated database on the same server."""
    with network(server) as found:
        yield found


def text(target: Target, table: str) -> bytes:
    query = f"COPY {table} TO STDOUT"
    with target.connect() as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        return b"".join(bytes(part) for part in copy)


def digests(target: Target, tables: list[str]) -> dict[str, str]:
    return {table: hashlib.sha256(text(target, table)).hexdigest() for table in tables}


def one(target: Target, query: str) -> Any:
    with target.connect() as connection:
        return connection.execute(query).fetchall()


def test_the_same_seed_and_shape_make_the_same_rows(target: Target, another: Target) -> None:
    made = make(target, Shape(150, seed=7))
    assert make(another, Shape(150, seed=7)) == made
    assert digests(target, list(made.rows)) == digests(another, list(made.rows))


def test_another_seed_makes_other_rows(target: Target, another: Target) -> None:
    make(target, Shape(150, seed=7))
    make(another, Shape(150, seed=8))
    tables = ["papers", "authors", "citations", "summaries", "external_ids"]
    first, second = digests(target, tables), digests(another, tables)
    assert not set(first.values()) & set(second.values())


def test_indexes_and_foreign_keys_are_back_when_the_rows_are_in(target: Target) -> None:
    schema = """
        SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid::regclass::text !~ '^pg_|information'
        UNION ALL SELECT conrelid::regclass || pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1"""
    before = one(target, schema)
    make(target, Shape(100))
    assert one(target, schema) == before
    assert len(before) > 30


def test_a_paper_counts_the_citations_that_it_has(target: Target) -> None:
    made = make(target, Shape(500))
    wrong = one(
        target,
        """SELECT id FROM papers
        WHERE citation_count <> (SELECT count(*) FROM citations WHERE cited_id = id)
           OR reference_count <> (SELECT count(*) FROM citations WHERE citing_id = id)""",
    )
    assert wrong == []
    assert made.rows["citations"] > 4 * made.rows["papers"]


def test_identity_columns_go_on_after_the_rows(target: Target) -> None:
    make(target, Shape(250))
    assert one(target, "INSERT INTO papers (provenance) VALUES ('cora') RETURNING id") == [(251,)]
    assert one(target, "INSERT INTO jobs (kind) VALUES ('crawl') RETURNING id") == [(3,)]


def test_every_row_says_that_it_is_made_up(target: Target) -> None:
    make(target, Shape(200))
    unmarked = """SELECT count(*) FROM papers WHERE provenance <> 'sample' OR venue NOT LIKE '%(sample)'
        UNION ALL SELECT count(*) FROM citations WHERE provenance <> 'sample'
        UNION ALL SELECT count(*) FROM authors WHERE provenance <> 'sample'
        UNION ALL SELECT count(*) FROM external_ids WHERE scheme <> 'sample'
        UNION ALL SELECT count(*) FROM summaries WHERE model <> 'made-up-model'"""
    assert one(target, unmarked) == [(0,)] * 5


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ("INSERT INTO papers (title, provenance) VALUES ('Real', 'semantic_scholar')", (1, 0)),
        ("INSERT INTO jobs (kind) VALUES ('crawl')", (0, 1)),
    ],
)
def test_a_sample_is_never_mixed_with_other_rows(target: Target, row: str, left: tuple[int, int]) -> None:
    with target.connect() as connection:
        connection.execute(row)
    with pytest.raises(RefnetError, match="already contains papers, authors or jobs"):
        make(target, Shape(10))
    assert one(target, "SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM jobs)") == [left]


@pytest.mark.parametrize("papers", [1, 2, 49])
def test_the_smallest_networks_can_be_made(target: Target, papers: int) -> None:
    assert make(target, Shape(papers)).rows["papers"] == papers


def test_it_compresses_about_as_real_abstracts_do(target: Target) -> None:
    """785 titles and abstracts that Semantic Scholar gave: 2.87 to 1."""
    make(target, Shape(600, dense=True))
    plain = text(target, "papers")
    assert 2.7 < len(plain) / len(gzip.compress(plain, 6)) < 3.0
