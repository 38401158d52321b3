"""The picture of a paper's neighbours, and the map of a crawl."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest

from refnet.network.layout import Links
from refnet.web.pages.network import link_of
from refnet.web.picture import (
    COLUMNS,
    LABELS,
    LINES,
    MAP_LINES,
    MAPPED,
    NEIGHBOURS,
    ROW,
    TALL,
    TOPICS,
    WIDTH,
    MapPaper,
    Node,
    neighbours,
    paper_map,
    picture,
    shortened,
)


def paper(references: int, citing: int, **values: Any) -> dict[str, Any]:
    def other(number: int) -> dict[str, Any]:
        return {"id": number, "title": f"Paper {number}", "year": 2000 + number % 7, "citation_count": number}

    return {
        **other(1),
        "references": {"papers": [other(100 + n) for n in range(references)]},
        "citations": {"papers": [other(200 + n) for n in range(citing)]},
        **values,
    }


@pytest.mark.parametrize(
    ("references", "citing", "shown"),
    [(50, 50, (20, 20)), (3, 50, (3, 37)), (50, 3, (37, 3)), (0, 2, (0, 2)), (0, 0, (0, 0))],
)
def test_each_side_gets_half_the_places_plus_what_the_other_leaves(
    references: int, citing: int, shown: tuple[int, int]
) -> None:
    left, right = neighbours(paper(references, citing))
    assert (len(left), len(right)) == shown


def overlapping(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """The pairs of papers whose labels cover each other."""
    return [
        (one.id, other.id)
        for one, other in combinations(nodes, 2)
        if abs(one.y - other.y) < ROW and one.ends[0] < other.ends[1] and one.ends[1] > other.ends[0]
    ]


@pytest.mark.parametrize("year", [None, 2000, lambda n: 1980 + n % 40, lambda n: 2000 + n % 3])
def test_no_label_covers_another_and_every_node_is_inside(year: Any) -> None:
    one = paper(50, 50)
    for side in ("references", "citations"):
        for other in one[side]["papers"]:
            other |= {
                "year": year(other["id"]) if callable(year) else year,
                "title": "A long title of a paper, " * 3,
            }
    drawn = picture(one, Links())
    assert len(drawn.nodes) == NEIGHBOURS + 1
    assert overlapping(drawn.nodes) == []
    assert all(
        node.ends[0] >= 0 and node.ends[1] <= WIDTH and 0 < node.y < drawn.height for node in drawn.nodes
    )
    assert picture(one, Links()) == drawn


def test_years_run_from_left_to_right_and_linked_papers_are_close() -> None:
    groups = [[100, 102, 104, 200, 202], [101, 103, 105, 201, 203]]
    links = tuple((one, other) for group in groups for one, other in combinations(group, 2))
    drawn = picture(paper(6, 4), Links(links[:10], links[10:]))
    by_x = sorted(drawn.nodes, key=lambda node: node.x)
    assert [node.year for node in by_x] == sorted(node.year or 0 for node in by_x)
    order = [node.id % 2 for node in drawn.nodes if node.id != 1]
    assert sum(a != b for a, b in pairwise(order)) == 1
    assert drawn.others.count("M") == 10
    assert [x for x, _ in drawn.years] == sorted(x for x, _ in drawn.years)


def test_a_paper_that_cites_and_is_cited_is_shown_once() -> None:
    one = paper(2, 0)
    one["citations"] = one["references"]
    drawn = picture(one, Links(((1, 100), (100, 1), (1, 999))))
    assert sorted(node.kind for node in drawn.nodes) == ["both", "both", "seed"]
    assert (drawn.own.count("M"), drawn.others) == (2, "")


def test_the_lines_are_bounded_and_a_paper_may_know_nothing_of_itself() -> None:
    one = paper(1, 1, title=None, year=None, citation_count=None)
    drawn = picture(one, Links(((1, 100),) * (LINES + 5)))
    assert drawn.own.count("M") == LINES
    assert [node.title for node in drawn.nodes if node.kind == "seed"] == ["#1"]


def mapped(count: int, topics: Callable[[int], tuple[str, ...]]) -> tuple[MapPaper, ...]:
    return tuple(
        MapPaper(n, f"Paper {n}", 1950 + n % 70 if n % 9 else None, n % 50, topics(n), n == 1)
        for n in range(1, count + 1)
    )


def test_a_map_of_a_thousand_papers_is_drawn_in_bounded_time_with_every_paper_inside() -> None:
    papers = mapped(MAPPED, lambda n: ("All", f"Topic {n % 12}"))
    citations = tuple(
        (n, m) for n in range(2, MAPPED) for m in {n // 2, n // 3, n // 5, n - 1, n // 7, n // 11} if m > 0
    )
    begun = time.process_time()
    drawn = paper_map(papers, Links(citations))
    assert time.process_time() - begun < 10
    nodes = drawn.picture.nodes
    assert len({(node.x, node.y) for node in nodes}) == MAPPED
    assert all(0 < node.x < WIDTH and 0 < node.y < TALL for node in nodes)
    assert drawn.picture.others.count("M") == min(MAP_LINES, len(citations))
    labels = [node for node in nodes if node.id in drawn.labelled]
    assert overlapping(labels) == []
    assert 10 < len(labels) <= LABELS
    assert 1 in drawn.labelled
    assert [node.kind for node in nodes if node.id == 1] == ["seed"]


def test_the_colour_is_the_rarest_topic_that_has_one() -> None:
    papers = mapped(100, lambda n: ("All", "Half")[: 1 + n % 2] + ((f"Rare {n}",) if n < 20 else ()))
    drawn = paper_map(papers, Links())
    assert drawn.topics[:2] == [("All", 100), ("Half", 50)]
    assert len(drawn.topics) == TOPICS
    colours = {node.id: node.topic for node in drawn.picture.nodes}
    assert (colours[100], colours[99]) == (0, 1)
    assert paper_map((MapPaper(1, None, None, None, (), False),), Links()).picture.nodes[0].topic is None
    assert paper_map((), Links()).picture.nodes == []


@pytest.mark.parametrize("text", ["", "short", "文" * 100, "w" * 100, "a文" * 50, "e\u0301" * 90])
def test_a_label_fits_into_its_columns(text: str) -> None:
    found = shortened(text)
    width = sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in found)
    assert width <= COLUMNS
    assert found == text or found.endswith("…")


@pytest.mark.parametrize(
    ("scheme", "value", "link"),
    [
        ("doi", "10.1/a", "https://doi.org/10.1/a"),
        ("doi", '10.1/"><script>#?', "https://doi.org/10.1/%22%3E%3Cscript%3E%23%3F"),
        ("doi", "10.1/A", None),
        ("doi", "javascript:alert(1)", None),
        ("doi", "https://doi.org/10.1/a", None),
        ("arxiv", "1706.03762", "https://arxiv.org/abs/1706.03762"),
        ("arxiv", "//evil.example", None),
        ("openalex", "W12", "https://openalex.org/W12"),
        ("pmc", "12", "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC12"),
        ("semantic_scholar", "a" * 40, f"https://www.semanticscholar.org/paper/{'a' * 40}"),
        ("semantic_scholar", "../x", None),
        ("url", "https://evil.example", None),
        ("javascript", "alert(1)", None),
    ],
)
def test_only_a_checked_id_of_a_known_site_is_a_link(scheme: str, value: str, link: str | None) -> None:
    assert link_of(scheme, value) == link
