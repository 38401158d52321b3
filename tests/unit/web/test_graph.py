"""The picture of a paper's neighbours."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest

from refnet.web.pages.network import (
    COLUMNS,
    LINES,
    NEIGHBOURS,
    WIDTH,
    link_of,
    neighbours,
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


def test_no_label_covers_another_and_every_node_is_inside() -> None:
    drawn = picture(paper(50, 50), [])
    assert len(drawn.nodes) == NEIGHBOURS + 1
    for side in (-1, 1):
        rows = sorted(node.y for node in drawn.nodes if node.side == side)
        assert min(b - a for a, b in pairwise(rows)) >= 20
    assert all(0 < node.x < WIDTH and 0 < node.y < drawn.height for node in drawn.nodes)
    assert [(node.id, node.side) for node in drawn.nodes if node.side == 0] == [(1, 0)]
    assert picture(paper(50, 50), []) == drawn


def test_a_paper_that_cites_and_is_cited_is_shown_once() -> None:
    one = paper(2, 0)
    one["citations"] = one["references"]
    drawn = picture(one, [(1, 100), (100, 1), (1, 999)])
    assert [node.kind for node in drawn.nodes] == ["seed", "both", "both"]
    assert [of_seed for _, of_seed in drawn.lines] == [True, True]


def test_the_lines_are_bounded_and_a_paper_may_know_nothing_of_itself() -> None:
    one = paper(1, 1, title=None, year=None, citation_count=None)
    drawn = picture(one, [(1, 100)] * (LINES + 5))
    assert (len(drawn.lines), drawn.nodes[0].title) == (LINES, "#1")


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
