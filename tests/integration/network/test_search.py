"""Search in stored papers: what finds a paper, on every server, and how long it takes among many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.command import Command, url_of
from tests.integration.network.crawling import network

from refnet.network.search import _WANTED, SearchText, Sort, page_query, search, words_of
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_TITLES = (
    "Études sur l'éducation à Łódź",
    "Computational methods for graph-based learning",
    "A study of studies",
    "Straße und Öl: ein Überblick",
    "機械学習 による 引用",
    "The graph: learning and/or forgetting",
)
_NAMES = ("José Ñandú-García", "J.R. O’Neil", "Łukasz Kaiser", "Kurt Gödel", "山田 太郎", "Ada Lovelace")


@pytest.fixture(scope="module")
def target(server: Cluster) -> Iterator[Target]:
    with network(server) as found, found.connect({"search_path": "public"}) as session:
        for title, name in zip(_TITLES, _NAMES, strict=True):
            session.execute("INSERT INTO papers (title, provenance) VALUES (%s, 'openalex')", [title])
            session.execute("INSERT INTO authors (name, provenance) VALUES (%s, 'openalex')", [name])
        session.execute("INSERT INTO paper_authors SELECT id, 1, id FROM papers")
        yield found


def found(target: Target, text: str = "", author: str = "") -> list[int]:
    filters: dict[str, Any] = SearchText.read(text).values() if text else {}
    filters |= {"author": words_of(author)} if author else {}
    with target.connect({"search_path": "public"}) as session:
        papers, complete = search(session, filters, Sort.CITATIONS, 100)
    assert complete
    return sorted(one["id"] for one in papers)


@pytest.mark.parametrize(
    ("text", "papers"),
    [
        ("etudes education", [1]), ("EDUCATION lodz", [1]), ("Łodź", [1]), ("computati", [2]), ("computers", [2]),
        ("graph", [2, 6]), ("graph-based", [2]), ("based", [2]), ('"graph based learning"', [2]), ('"graph learning"', [6]),
        ("study", [3]), ("studies", [3]), ("studying", [3]), ("strase ol", [4]), ("Straße", [4]), ("uberblick", [4]),
        ("機械", [5]), ("引用", [5]), ("forgetting or", [6]), ("the & | ! ( ) : * < >", [6]), ("' \\ \"", []), ("zzz", []),
    ],
)  # fmt: skip
def test_words_are_found_by_beginnings_stems_and_without_accents(
    target: Target, text: str, papers: list[int]
) -> None:
    assert found(target, text) == papers


@pytest.mark.parametrize(
    ("word", "asked"),
    [("graph", "'graph':*"), ("computers", "'comput':*"), ("study", "'study':* | 'studi':*"), ("studies", "'study':* | 'studi':*"),
     ("of", "'of':*"), ("x", "'x'"), ("2017", "'2017':*")],
)  # fmt: skip
def test_the_index_is_asked_for_each_beginning_once(target: Target, word: str, asked: str) -> None:
    with target.connect({"search_path": "public"}) as session:
        (found,) = session.execute(f"SELECT {_WANTED}::text".encode(), {"words": [word]}).fetchone() or ("",)
    assert sorted(found.split(" | ")) == sorted(asked.split(" | "))


@pytest.mark.parametrize(
    ("name", "papers"),
    [
        ("jose", [1]), ("García", [1]), ("nandu garc", [1]), ("R O'Neil", [2]), ("neil", [2]), ("kaiser lukasz", [3]),
        ("godel", [4]), ("GÖD", [4]), ("山田", [5]), ("lovelace", [6]), ("love lace", []), ("", [1, 2, 3, 4, 5, 6]),
    ],
)  # fmt: skip
def test_an_author_is_found_by_a_part_of_the_name(target: Target, name: str, papers: list[int]) -> None:
    assert found(target, author=name) == papers


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("10.1145/3292500", [("doi", "10.1145/3292500")]),
        ("DOI: 10.1145/ABC", [("doi", "10.1145/abc")]),
        ("https://dl.acm.org/doi/10.1145/3292500.33?ref=x", [("doi", "10.1145/3292500.33")]),
        ("https://doi.org/10.1/a?x=1", [("doi", "10.1/a?x=1")]),
        ("https://doi.org/10.1000/a%2Fb#c", [("doi", "10.1000/a%2fb#c"), ("doi", "10.1000/a/b")]),
        ("https://arxiv.org/abs/2106.15928v2", [("arxiv", "2106.15928")]),
        ("www.arxiv.org/pdf/2106.15928", [("arxiv", "2106.15928")]),
        (f"https://www.semanticscholar.org/paper/A-title/{'ab' * 20}", [("semantic_scholar", "ab" * 20)]),
        ("PMID:123", [("pubmed", "123")]),
        ("2017", []), ("graph 10.1/a", []), ("W123 graph", []),
    ],
)  # fmt: skip
def test_an_id_and_a_url_with_one_are_recognized(text: str, ids: list[tuple[str, str]]) -> None:
    assert [*SearchText.read(text).ids] == ids


def test_the_command_finds_what_the_page_finds(server: Cluster, target: Target, short_folder: Any) -> None:
    home = short_folder / "papers"
    home.mkdir()
    refnet = Command(home, home / "backups", url_of(target))
    shown = refnet("papers", "comput", "--author", "lovelace")
    shown.succeeds()
    assert shown.out.endswith("no paper matches\n")
    assert [one["title"] for one in refnet("papers", '"graph based"', "--json").json["papers"]] == [
        _TITLES[1]
    ]
    assert _TITLES[0] in refnet("papers", "--author", "nandu", "--sort", "year").out
    refnet("papers", "--sort", "title").fails(2, "'title' is not a sort order")


@pytest.mark.parametrize("most", [100, 5])
def test_by_rank_those_with_a_rank_come_first_page_by_page(
    target: Target, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("refnet.network.search.ORDERED", most)
    with (
        target.connect({"search_path": "public"}) as session,
        session.transaction(force_rollback=True),
    ):
        added = session.execute(
            "INSERT INTO papers (title, year, provenance) SELECT 'Common ' || g, 2000 + g % 2, 'openalex'"
            " FROM generate_series(1, 7) g RETURNING id"
        )
        ids = [one for (one,) in added.fetchall()]
        ranks = "INSERT INTO ranks (paper_id, position, pagerank, cited_by, cites) VALUES (%s, %s, 0.1, 1, 1)"
        session.cursor().executemany(ranks, [(ids[1], 2), (ids[4], 1), (ids[3], 3)])
        ranked = [ids[4], ids[1], ids[3]]
        every = [*ranked, *(one for one in reversed(ids) if one not in ranked)]
        for filters, expected in (
            ({}, every),
            ({"year": 2000}, [one for one in every if ids.index(one) % 2]),
        ):
            values, found, last = SearchText.read("common").values() | filters, list[int](), dict[str, int]()
            while True:
                query = page_query(values, Sort.RANK, "NULL", after=bool(last))
                rows = session.execute(query.encode(), {**values, "limit": 2, **last}).fetchall()
                if not rows:
                    break
                found += [row[1] for row in rows]
                last = {"key": rows[-1][0], "id": rows[-1][1]}
                assert rows[0][3] is (most < len(ids))
            if most > len(ids):
                assert found == expected
            else:
                assert len(found) == len({*found}) > 0


def test_among_thousands_of_papers_a_search_is_quick(target: Target) -> None:
    with (
        target.connect({"search_path": "public", "jit": "off"}) as session,
        session.transaction(force_rollback=True),
    ):
        session.execute(
            "INSERT INTO papers (title, abstract, year, citation_count, provenance) SELECT 'Graph ' || md5(g::text),"
            " repeat('learning of trees and networks, ', 20), 1990 + g % 30, g % 99, 'openalex' FROM generate_series(1, 5000) g"
        )
        session.execute("ANALYZE papers")
        for sort in Sort:
            for text in ("graph", "tree learn", '"trees and networks"', "10.1/a", "grap netw"):
                begun = time.perf_counter()
                search(session, SearchText.read(text).values(), sort, 51)
                assert time.perf_counter() - begun < 2, (sort, text)
