"""A crawl of answers that Semantic Scholar once gave; skipped where they are not beside the repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network.crawling import crawled, graph
from tests.recordings import Recordings, read, replayed
from tests.shared_data import shared

from refnet.network.crawls import CrawlOrder, Direction
from refnet.postgres.session import Target
from refnet.settings import Settings

MICROCREDIT = "DOI:10.2139/ssrn.2250500"
DAYTON = "CorpusId:14514057"
TURING = "DOI:10.1093/MIND/LIX.236.433"


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return read(shared("semantic_scholar"))


@pytest.fixture
def settings(recorded: Recordings, tmp_path: Path) -> Iterator[Settings]:
    with replayed(recorded) as url:
        yield dataclasses.replace(
            Settings(home=tmp_path),
            crawl_semantic_scholar_url=url,
            crawl_openalex_url=url.replace("/graph/v1", "/openalex"),
            crawl_requests_per_second=0.0,
        )


def test_references_are_read_to_the_last_page_and_bare_titles_are_kept(
    target: Target, settings: Settings
) -> None:
    result = crawled(target, settings, CrawlOrder((MICROCREDIT,)))
    (seed,) = result.seeds
    assert (result.state, result.failed, result.citations) == ("succeeded", [], 67)
    assert seed.resolved == 44
    with target.connect() as session:
        bare = session.execute("SELECT count(*) FROM papers WHERE title_key IS NOT NULL").fetchone()
        row = session.execute("SELECT title, year FROM papers WHERE id = %s", [seed.paper_id]).fetchone()
    assert bare == (23,)
    assert row == ("The Miracle of Microfinance? Evidence from a Randomized Evaluation", 2013)


def test_recorded_citations_are_read_and_a_second_crawl_adds_nothing(
    target: Target, settings: Settings, recorded: Recordings
) -> None:
    order = CrawlOrder((TURING, DAYTON, MICROCREDIT), Direction.BOTH, 1, 100)
    first = crawled(target, settings, order)
    before = graph(target)
    asked = len(recorded.requests)
    second = crawled(target, settings, order)
    assert (first.state, first.failed, sum(first.papers)) == ("succeeded", [], 100)
    # 14 and 1,000 of Turing's paper, 1,881, and 67; each page was asked for once.
    assert first.citations == 14 + 1000 + 1881 + 67
    assert second.crawl != first.crawl
    assert (second.citations, second.new_citations, graph(target)) == (first.citations, 0, before)
    pages = [one for one in recorded.requests[:asked] if one.endswith("citations")]
    assert len(pages) == 1 + 19 + 1
