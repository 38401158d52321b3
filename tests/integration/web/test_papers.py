"""`/api/papers` over HTTP, from a real database."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from tests.serving import Served

from refnet.postgres.session import Target


def _ids(target: Target, where: str = "true") -> list[int]:
    query = f"SELECT id FROM papers WHERE {where} ORDER BY citation_count DESC NULLS LAST, id DESC"
    with target.connect({"search_path": "public"}) as connection:
        return [number for (number,) in connection.execute(query.encode())]


def _all(served: Served, **asked: Any) -> list[int]:
    """The ids of every page."""
    found: list[int] = []
    while True:
        page = served.list(**asked).json
        found += [paper["id"] for paper in page["papers"]]
        if page["next"] is None:
            return found
        asked["cursor"] = page["next"]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, "true"),
        ({"year": 1999}, "year = 1999"),
        ({"venue": "JOURNAL of trees"}, "venue = 'Journal of Trees'"),
        ({"author": "文字 𝒳"}, "id % 2 = 1"),
        ({"author": "lovel"}, "id % 2 = 0"),
        ({"author": "LOVELACE, Ada"}, "id % 2 = 0"),
        ({"author": "lace"}, "false"),
        ({"author": "!"}, "false"),
        ({"q": "tre everyth"}, "abstract IS NOT NULL"),
        ({"q": "Ğráphs"}, "true"),
        ({"q": '"on graphs" 250'}, "id = 250"),
        ({"q": '"graphs on"'}, "false"),
        ({"q": "“PAPER 25”"}, "id = 25"),
        ({"q": "paper 25"}, "id = 25 OR id = 250"),
        ({"q": "https://doi.org/10.1/A"}, "id = 1"),
        ({"q": "doi: 10.1/a"}, "id = 1"),
        ({"q": "https://arxiv.org/pdf/1706.03762v5.pdf"}, "id = 1"),
        ({"q": "10.1/none"}, "false"),
        ({"provenance": "openalex"}, "id > 240"),
        ({"has_summary": "true"}, "id = 1"),
        ({"has_summary": "false"}, "id > 1"),
        ({"q": "tree"}, "abstract IS NOT NULL"),
        (
            {"q": "graphs trees", "year": 2000, "venue": "graphs"},
            "abstract <> '' AND year = 2000 AND venue = 'Graphs'",
        ),
        ({"q": "the"}, "false"),
        ({"q": "-- '; DROP TABLE papers; %s %(id)s"}, "false"),
    ],
    ids=str,
)
def test_the_pages_of_a_list_are_every_paper_once_the_most_cited_first(
    served: Served, network: Target, asked: dict[str, Any], where: str
) -> None:
    assert _all(served, **asked, limit=17) == _ids(network, where)


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ({"sort": "year"}, "year DESC NULLS LAST, id DESC"),
        ({"sort": "year", "q": "graphs"}, "year DESC NULLS LAST, id DESC"),
        ({"sort": "rank"}, "id <> 1, id DESC"),
        ({"sort": "rank", "q": "graphs"}, "id <> 1, id DESC"),
        ({"sort": "citations", "q": '"on graphs"'}, "citation_count DESC NULLS LAST, id DESC"),
    ],
    ids=str,
)
def test_a_list_is_in_the_order_that_was_asked_for_page_by_page(
    served: Served, network: Target, asked: dict[str, Any], order: str
) -> None:
    with network.connect({"search_path": "public"}) as connection:
        wanted = [
            number for (number,) in connection.execute(f"SELECT id FROM papers ORDER BY {order}".encode())
        ]
    assert _all(served, **asked, limit=60) == wanted


def test_a_listed_paper_has_its_authors_and_what_is_unknown_is_null(served: Served) -> None:
    page = served.list(q="250").json
    assert page == {"papers": [{
        "id": 250, "title": "Paper 250 on graphs", "year": 2000, "venue": "Graphs", "authors": ["Ada Lovelace"],
        "citation_count": 125, "reference_count": None, "provenance": "openalex", "has_details": True,
        "rank": None, "has_summary": False,
    }], "next": None, "complete": True}  # fmt: skip


def test_one_paper_has_everything_that_is_linked_to_it_within_bounds(served: Served) -> None:
    paper = served.ask("/api/papers/1?links=5").json
    assert {one["scheme"]: one["value"] for one in paper["external_ids"]} == {
        "doi": "10.1/a",
        "arxiv": "1706.03762",
    }
    assert (paper["references"]["count"], [one["id"] for one in paper["references"]["papers"]]) == (
        3,
        [4, 3, 2],
    )
    assert paper["citations"]["count"] == 249
    assert [one["id"] for one in paper["citations"]["papers"]] == [244, 237, 230, 223, 216]
    assert [(one["kind"], one["id"], one["strength"]) for one in paper["related"]] == [
        ("co_citation", 3, 4),
        ("coupling", 2, 9),
    ]
    assert (paper["rank"]["position"], paper["summaries"][0]["content"]) == (1, "It is short.")
    assert paper["authors"] == [{"id": 2, "name": "文字 𝒳", "orcid": None}]


@pytest.mark.parametrize(
    "path", ["/api/papers/251", "/nothing", "/api/papers/1/../../../etc/passwd", "/api//papers"]
)
def test_what_is_not_there_is_a_404_of_two_lines(served: Served, path: str) -> None:
    said = served.ask(path)
    assert (said.status, list(said.json)) == (404, ["error", "hint"])


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/papers/0", "id"),
        ("/api/papers/-1", "id"),
        ("/api/papers/9223372036854775808", "id"),
        (f"/api/papers/{'9' * 5000}", "id"),
        ("/api/papers/1e3", "id"),
        ("/api/papers/%00", "id"),
        ("/api/papers/1?links=201", "links"),
        ("/api/papers?limit=0", "limit"),
        ("/api/papers?limit=201", "limit"),
        ("/api/papers?limit=x", "limit"),
        ("/api/papers?limit=1&limit=x", "limit"),
        ("/api/papers?q=", "q"),
        (f"/api/papers?q={'x' * 501}", "q"),
        ("/api/papers?q=a%00b", "q"),
        ("/api/papers?author=a%0Ab", "author"),
        ("/api/papers?year=20000", "year"),
        ("/api/papers?provenance=%27", "provenance"),
        ("/api/papers?has_summary=2", "has_summary"),
        ("/api/papers?yaer=2000", "yaer"),
        ("/api/papers?cursor=", "cursor"),
        (f"/api/papers?cursor={'A' * 23}", "cursor"),
        (f"/api/papers?cursor={quote('../../etc')}", "cursor"),
        ("/api/papers?cursor=--2.1", "cursor"),
        ("/api/papers?sort=title", "sort"),
        (f"/api/papers?cursor=1.{'9' * 19}", "cursor"),
        ("/api/papers?cursor=1.2%0A", "cursor"),
        ("/api/backups?limit=0", "limit"),
    ],
)
def test_a_wrong_value_is_named_in_a_400_of_two_lines(served: Served, path: str, named: str) -> None:
    said = served.ask(path)
    assert (said.status, list(said.json)) == (400, ["error", "hint"])
    assert said.json["error"].startswith(f"{named}: ")
    assert len(said.body) < 1500


def test_a_search_for_a_common_word_says_that_it_looked_at_a_part(served: Served, network: Target) -> None:
    with network.connect({"search_path": "public"}) as connection:
        connection.execute(
            "INSERT INTO papers (title, provenance) SELECT 'zebra ' || g, 'cora' FROM generate_series(1, 2002) g"
        )
        try:
            page = served.list(q="zebra", limit=1).json
        finally:
            connection.execute("DELETE FROM papers WHERE provenance = 'cora'")
    assert (len(page["papers"]), page["complete"]) == (1, False)
