"""Both providers over HTTP: which is asked first, what the other fills in, and that no request is one they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.network.crawling import crawled, settings_of

from refnet.core.errors import RefnetError
from refnet.demo import fake_answers
from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import Running, running
from refnet.network import crawl_work
from refnet.network.crawls import CrawlOrder, Direction
from refnet.postgres.session import Target
from refnet.settings import Settings

FAKE = FakeGraph(400, 6000, 3)
#: Semantic Scholar is down.
DOWN = "batch:503%100,references:503%100,citations:503%100,paper:503%100"
#: Of the papers with the most references, and one with both.
MOST = max(range(400), key=lambda number: len(FAKE.cites(number)))
BOTH = max(range(100, 300), key=lambda number: min(len(FAKE.cites(number)), len(FAKE.cited_by(number))))
OLDEST = f"DOI:{FAKE.doi(0)}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), crawl_openalex_key="key")


def works(fake: Running) -> list[dict[str, str]]:
    """The parameters of each request for a list of works."""
    return [one.query for one in fake.requests if one.path == "/openalex/works"]


def count(target: Target, query: str) -> Any:
    with target.connect({"search_path": "public"}) as session:
        return session.execute(query.encode()).fetchall()


def test_openalex_first_collects_details_references_and_citations_page_by_page(
    target: Target, base: Settings
) -> None:
    citing, cited = len(FAKE.cited_by(0)), len(FAKE.cites(MOST))
    assert citing > 100
    with running(FAKE) as fake:
        settings = settings_of(fake, base, crawl_provider="openalex")
        order = CrawlOrder((OLDEST, f"DOI:{FAKE.doi(MOST)}"), Direction.BOTH, 1, 400)
        result = crawled(target, settings, order)
    assert (result.state, result.unknown, result.failed) == ("succeeded", [], [])
    assert result.citations >= citing + cited
    assert count(target, "SELECT count(*) FROM citations WHERE provenance <> 'openalex'") == [(0,)]
    of_oldest = f"SELECT count(*) FROM citations JOIN external_ids ON paper_id = cited_id WHERE value = '{FAKE.openalex_id(0)}'"
    assert count(target, of_oldest) == [(citing,)]
    assert (fake.counts["batch"], fake.counts["references"]) == (0, 1)  # the oldest paper has no references
    assert works(fake)
    for query in works(fake):
        assert query["select"]
        assert query["per-page"] == "100"
        assert len(query["filter"].split("|")) <= 100
    assert [one["cursor"] for one in works(fake) if one["filter"].startswith("cites:")][:2] == ["*", "100"]
    assert all(one.query["select"] for one in fake.requests if one.path.startswith("/openalex/works/"))


def test_what_openalex_does_not_know_is_asked_of_semantic_scholar(target: Target, base: Settings) -> None:
    number = 30  # it has an id that OpenAlex cannot find
    with running(FAKE) as fake:
        settings = settings_of(fake, base, crawl_provider="openalex")
        result = crawled(
            target, settings, CrawlOrder((f"CorpusId:{FAKE.paper(number)['corpusId']}",), depth=0)
        )
        assert (result.state, fake.counts["batch"]) == ("succeeded", 1)
    assert result.papers == [1]


@pytest.mark.parametrize("direction", Direction)
def test_while_semantic_scholar_is_down_openalex_gives_details_and_citations_too(
    target: Target, base: Settings, direction: Direction
) -> None:
    with running(FAKE, Faults.read(DOWN)) as fake:
        result = crawled(
            target, settings_of(fake, base), CrawlOrder((f"DOI:{FAKE.doi(BOTH)}",), direction, 1, 50)
        )
    assert (result.state, result.failed, result.unknown) == ("succeeded", [], [])
    wanted = len(FAKE.cites(BOTH)) * (direction is not Direction.CITATIONS)
    wanted += len(FAKE.cited_by(BOTH)) * (direction is not Direction.REFERENCES)
    assert result.citations == wanted
    assert count(target, "SELECT DISTINCT provenance FROM papers") == [("openalex",)]


def test_a_paper_that_openalex_does_not_know_is_not_unknown_while_semantic_scholar_is_down(
    target: Target, base: Settings
) -> None:
    with running(FAKE, Faults.read(DOWN)) as fake, pytest.raises(RefnetError, match="returned status 503"):
        crawled(
            target, settings_of(fake, base), CrawlOrder((f"DOI:{FAKE.doi(BOTH)}", "DOI:10.1/other"), depth=0)
        )


@pytest.mark.parametrize(("direction", "seed"), [(Direction.CITATIONS, 0), (Direction.REFERENCES, MOST)])
def test_a_list_ends_at_the_last_entry_and_no_page_is_asked_for_without_entries(
    target: Target, base: Settings, monkeypatch: pytest.MonkeyPatch, direction: Direction, seed: int
) -> None:
    monkeypatch.setattr(crawl_work, "_MOST_ENTRIES", 4)
    monkeypatch.setattr(crawl_work, "LAST_ENTRY", 10)
    monkeypatch.setattr(fake_answers, "_LAST", 11)
    with running(FAKE) as fake:
        result = crawled(
            target, settings_of(fake, base), CrawlOrder((f"DOI:{FAKE.doi(seed)}",), direction, 1, 1)
        )
    asked = [
        (int(one.query["offset"]), int(one.query["limit"])) for one in fake.requests if "offset" in one.query
    ]
    assert asked == [(0, 4), (4, 4), (8, 2)]
    assert (result.state, result.citations, len(result.cut)) == ("succeeded", 10, 1)
