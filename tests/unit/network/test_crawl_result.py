"""What the result of a crawl says."""

from __future__ import annotations

from dataclasses import replace

from refnet.network.crawls import CrawlResult

RESULT = CrawlResult(
    crawl=7,
    state="succeeded",
    direction="references",
    papers=[1, 12],
    stubs=1,
    citations=13,
    new_citations=12,
    requests=2,
    seconds=0.5,
    seeds=[],
    unknown=[],
    without_details=0,
    failed=[],
    cut=[],
    notes=[],
)


def first_line(result: CrawlResult) -> str:
    return next(result.lines())


def test_the_first_line_counts_papers_stubs_and_citations() -> None:
    assert first_line(RESULT) == (
        "crawl 7 succeeded: 13 papers (by level: 1, 12), 1 stub, 13 citations received, 12 of them new"
    )


def test_the_first_line_says_that_a_seed_is_unknown() -> None:
    line = first_line(replace(RESULT, unknown=["DOI:10.1/none"]))
    assert line.startswith("crawl 7 succeeded, with 1 seed unknown: 13 papers")


def test_a_crawl_of_unknown_seeds_alone_has_not_succeeded() -> None:
    result = replace(RESULT, papers=[], stubs=0, citations=0, new_citations=0, unknown=["DOI:a", "DOI:b"])
    assert first_line(result) == "crawl 7 collected nothing: 2 seeds unknown"


def test_a_crawl_without_papers_names_no_levels() -> None:
    line = first_line(replace(RESULT, state="cancelled", papers=[]))
    assert line.startswith("crawl 7 cancelled: 0 papers, 1 stub")
