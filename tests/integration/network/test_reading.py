"""What to read first, by the formula of docs/network.md, and why; on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import log

import pytest
from tests.integration.network.crawling import network

from refnet.network.reading import to_read
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

NOW = datetime.now(UTC).year
#: Title, year, citations by the provider; the paper of each has the number of its place, from 1.
PAPERS = (
    ("My seed", NOW - 2, 5), ("My other seed", NOW - 1, 1), ("The classic of 1992", 1992, 900), ("The new one", NOW - 3, 600),
    ("Cites mine", NOW, 2), ("Without year and count", None, None), ("Not of this crawl", NOW, 9999),
)  # fmt: skip
#: Citing, cited, influential.
CITATIONS = ((1, 3, None), (1, 4, True), (2, 4, True), (5, 1, False), (5, 4, None), (2, 6, None))


@pytest.fixture(scope="module")
def target(server: Cluster) -> Iterator[Target]:
    """Two crawls with a seed each; the second has all papers but the last."""
    with network(server) as target:
        with target.connect() as session:
            for row in PAPERS:
                session.execute(
                    "INSERT INTO papers (title, year, citation_count, provenance) VALUES (%s, %s, %s, 'x')",
                    row,
                )
            for citation in CITATIONS:
                session.execute(
                    "INSERT INTO citations (citing_id, cited_id, is_influential, provenance) VALUES (%s, %s, %s, 'x')",
                    citation,
                )
            session.execute("INSERT INTO ranks SELECT id, id, 0.1, 3, 0 FROM papers")
            for _ in range(2):
                session.execute(
                    "INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES ('{a}', 'both', 1, 9)"
                )
            session.execute(
                "INSERT INTO crawl_papers VALUES (1, 1, 0), (2, 2, 0), (2, 3, 1), (2, 4, 1), (2, 5, 1), (2, 6, 1), (2, 1, 1)"
            )
        yield target


def test_the_score_is_that_of_the_documents_and_each_paper_says_why(target: Target) -> None:
    with target.connect() as session:
        found = to_read(session, 2, 10)

    assert [(one.id, one.why) for one in found] == [
        (
            4,
            "cited by 2 of yours; influential for 2; cited together with yours by 1 paper; 150 citations a year",
        ),
        (3, f"cited by 1 of yours; {round(900 / (NOW - 1991))} citations a year"),
        (5, "cites 1 of yours; 2 citations a year"),
        (6, "cited by 1 of yours"),
    ]
    expected = [
        log(1 + 600 / 4) + 2 * log(3) + log(3) + log(2),
        log(1 + 900 / (NOW - 1991)) + 2 * log(2),
        log(1 + 2) + 2 * log(2),
        log(1 + 3 / 10) + 2 * log(2),
    ]
    assert [one.score for one in found] == pytest.approx(expected)


def test_without_a_crawl_all_ranked_papers_count_and_the_list_is_as_long_as_asked(target: Target) -> None:
    with target.connect() as session:
        assert [one.id for one in to_read(session, None, 2, [1])] == [7, 4]
        assert to_read(session, 99, 5) == []
