"""Papers and citations are written once, whatever the order and the number of writers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import psycopg
import pytest

from refnet.network import SESSION
from refnet.network.migrate import migrate
from refnet.network.papers import FoundAuthor, FoundEdge, FoundPaper, Tldr
from refnet.network.writing import retried, write_edges, write_papers
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

SCHOLAR = "semantic_scholar"


@pytest.fixture(scope="module")
def target(server: Cluster) -> Iterator[Target]:
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE writing TEMPLATE template0")
        admin.execute("ALTER DATABASE writing SET default_transaction_isolation = 'repeatable read'")
    target = server.target("writing")
    migrate(target)
    yield target
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE writing WITH (FORCE)")


@pytest.fixture
def connection(target: Target) -> Iterator[psycopg.Connection[Any]]:
    with target.connect(SESSION) as connection:
        connection.execute("TRUNCATE papers, authors, crawls, jobs RESTART IDENTITY CASCADE")
        yield connection


def paper(name: str, **values: Any) -> FoundPaper:
    """A paper with the id `name`, and others as given."""
    ids = {SCHOLAR: name} | values.pop("ids", {})
    return FoundPaper(
        values.pop("provenance", SCHOLAR), ids, values.pop("title", f"Title of {name}"), **values
    )


def detailed(name: str, **values: Any) -> FoundPaper:
    return paper(name, detailed=True, **values)


def written(connection: psycopg.Connection[Any], *papers: FoundPaper) -> list[int]:
    return retried(connection, lambda cursor: write_papers(cursor, papers))


def linked(
    connection: psycopg.Connection[Any],
    start: FoundPaper,
    ends: Sequence[FoundPaper | FoundEdge],
    direction: Literal["references", "citations"] = "references",
) -> int:
    edges = [FoundEdge(end) if isinstance(end, FoundPaper) else end for end in ends]

    def work(cursor: psycopg.Cursor[Any]) -> int:
        (number,) = write_papers(cursor, [start])
        return write_edges(cursor, number, direction, edges, SCHOLAR)

    return retried(connection, work)


def rows(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    found = connection.execute(query).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def graph(connection: psycopg.Connection[Any]) -> set[tuple[str, str]]:
    """The citations by the titles of their ends."""
    query = """SELECT citing.title, cited.title FROM citations
        JOIN papers AS citing ON citing.id = citing_id JOIN papers AS cited ON cited.id = cited_id"""
    return {
        (citing.removeprefix("Title of "), cited.removeprefix("Title of "))
        for citing, cited in rows(connection, query)
    }


def test_a_page_that_is_written_twice_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    ends = [
        paper("b"),
        paper("c"),
        FoundPaper(SCHOLAR, {}, "Only a Title."),
        FoundPaper(SCHOLAR, {}, "only a title"),
    ]
    everything = (
        "SELECT to_jsonb(p) FROM papers AS p UNION ALL SELECT to_jsonb(c) FROM citations AS c ORDER BY 1"
    )

    assert linked(connection, paper("a"), ends) == 3
    first = rows(connection, everything)
    assert linked(connection, paper("a"), ends) == 0
    assert rows(connection, everything) == first
    assert rows(connection, "SELECT title, title_key FROM papers WHERE title_key IS NOT NULL") == [
        ("Only a Title.", "only a title")
    ]


def test_the_ends_of_a_citation_follow_its_direction(connection: psycopg.Connection[Any]) -> None:
    linked(connection, paper("a"), [paper("b")])
    linked(connection, paper("a"), [paper("c")], "citations")

    assert graph(connection) == {("a", "b"), ("c", "a")}


def test_self_citations_and_duplicates_are_dropped_and_cycles_stay(
    connection: psycopg.Connection[Any],
) -> None:
    ends = [paper("b"), paper("a"), paper("b"), paper("x", ids={"doi": "10.1/a"})]

    assert linked(connection, paper("a", ids={"doi": "10.1/a"}), ends) == 1
    assert linked(connection, paper("b"), [paper("a")]) == 1
    assert graph(connection) == {("a", "b"), ("b", "a")}


def test_a_citation_takes_what_it_had_not_and_keeps_what_it_had(connection: psycopg.Connection[Any]) -> None:
    context = {"context": "See [1].", "intents": ["result"]}
    linked(connection, paper("a"), [FoundEdge(paper("b"), is_influential=True)])
    linked(connection, paper("a"), [FoundEdge(paper("b"), False, ("result",), (context,))])

    assert rows(connection, "SELECT is_influential, intents, contexts FROM citations") == [
        (True, ["result"], [context])
    ]


def test_details_fill_a_stub_and_renew_what_the_same_provider_said(
    connection: psycopg.Connection[Any],
) -> None:
    stub, first, second = (
        written(connection, one)
        for one in (
            paper("a", title="Early title", citation_count=1),
            detailed("a", title="Title", abstract="One.", citation_count=2, authors=(FoundAuthor("N", "7"),)),
            detailed(
                "a",
                title="Title",
                citation_count=3,
                tldr=Tldr("Short.", "m"),
                authors=(FoundAuthor("N", "7"),),
            ),
        )
    )

    assert stub == first == second
    query = (
        "SELECT title, abstract, citation_count, details_fetched_at IS NOT NULL, field_provenance FROM papers"
    )
    assert rows(connection, query) == [("Title", "One.", 3, True, {})]
    assert rows(connection, "SELECT kind, model, content FROM summaries") == [("tldr", "m", "Short.")]
    assert rows(connection, "SELECT name, semantic_scholar_id, provenance FROM authors") == [
        ("N", "7", SCHOLAR)
    ]


def test_a_second_provider_fills_what_is_empty_and_is_named_for_it(
    connection: psycopg.Connection[Any],
) -> None:
    first = detailed("a", title="First", year=2000, ids={"doi": "10.1/a"})
    second = FoundPaper(
        "openalex", {"openalex": "W1", "doi": "10.1/a"}, "Second", "Text.", 2001,
        authors=(FoundAuthor("N", orcid="0000-0001"), FoundAuthor("M")), detailed=True,
    )  # fmt: skip

    assert written(connection, first) == written(connection, second) == written(connection, second)
    query = "SELECT title, year, abstract, provenance, field_provenance FROM papers"
    filled = ("First", 2000, "Text.", SCHOLAR, {"abstract": "openalex", "authors": "openalex"})
    assert rows(connection, query) == [filled]
    assert rows(connection, "SELECT name, orcid, provenance FROM authors ORDER BY id") == [
        ("N", "0000-0001", "openalex"),
        ("M", None, "openalex"),
    ]
    assert written(connection, detailed("a", title="Renewed", abstract="Other.")) == [1]
    assert rows(connection, query) == [("Renewed", 2000, *filled[2:])]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
def test_a_published_version_wins_over_its_preprint(
    connection: psycopg.Connection[Any], order: tuple[int, int], together: bool
) -> None:
    preprint = detailed(
        "pre", ids={"arxiv": "2001.1", "doi": "10.48550/arxiv.2001.1"}, venue="arXiv.org", abstract="A."
    )
    published = detailed("pub", ids={"arxiv": "2001.1", "doi": "10.1/a"}, venue="Journal", year=2001)
    papers = [(preprint, published)[one] for one in order]
    for batch in [papers] if together else [[one] for one in papers]:
        written(connection, *batch)

    assert rows(connection, "SELECT title, venue, abstract, year FROM papers") == [
        ("Title of pub", "Journal", "A.", 2001)
    ]
    assert len(rows(connection, "SELECT value FROM external_ids")) == 5


def test_rows_that_turn_out_to_be_one_paper_are_merged_without_loss(
    connection: psycopg.Connection[Any],
) -> None:
    old = detailed("old", year=2001, authors=(FoundAuthor("A", "1"),), tldr=Tldr("Old.", "m"))
    new = detailed("new", abstract="Text.", authors=(FoundAuthor("B", "2"),), tldr=Tldr("New.", "n"))
    linked(connection, paper("citing"), [old, new])
    linked(connection, old, [paper("both"), paper("left"), new])
    linked(connection, new, [paper("both"), paper("right")])
    ids = written(connection, old, new)
    connection.execute("INSERT INTO jobs (kind, paper_id) VALUES ('crawl_edges', %s)", [ids[1]])
    connection.execute(
        "INSERT INTO crawls (seeds, direction, depth, paper_limit) VALUES ('{a}', 'both', 1, 9)"
    )
    connection.execute(
        "INSERT INTO crawl_papers SELECT 1, id, level FROM unnest(%s::int[], '{3,2}'::int[]) AS _ (id, level)",
        [ids],
    )

    both = FoundPaper(SCHOLAR, {SCHOLAR: "new", "alias": "x"}, "Other")
    assert written(connection, both, FoundPaper(SCHOLAR, {SCHOLAR: "old", "alias": "x"})) == [
        min(ids),
        min(ids),
    ]

    assert graph(connection) == {("citing", "old"), ("old", "both"), ("old", "left"), ("old", "right")}
    query = f"SELECT year, abstract FROM papers WHERE id = {min(ids)}"
    assert rows(connection, query) == [(2001, "Text.")]
    assert rows(connection, "SELECT count(*) FROM papers") == [5]
    assert rows(connection, "SELECT name FROM paper_authors JOIN authors ON id = author_id") == ["A"]
    assert rows(connection, "SELECT content FROM summaries ORDER BY 1") == ["New.", "Old."]
    assert rows(connection, "SELECT paper_id FROM jobs") == [min(ids)]
    assert rows(connection, "SELECT paper_id, level FROM crawl_papers") == [(min(ids), 2)]
    assert rows(connection, f"SELECT value FROM external_ids WHERE paper_id = {min(ids)} ORDER BY 1") == [
        "new",
        "old",
        "x",
    ]


def test_many_rows_become_one_when_an_answer_joins_them(connection: psycopg.Connection[Any]) -> None:
    others = [paper(f"p{number}", ids={"doi": f"10.1/{number}"}) for number in range(5)]
    linked(connection, paper("a"), others)
    joined = [FoundPaper(SCHOLAR, {"doi": f"10.1/{number}", "mag": "7"}) for number in range(5)]

    assert linked(connection, paper("p3"), [*joined, paper("b")]) == 1
    assert graph(connection) == {("a", "p0"), ("p0", "b")}
    assert rows(connection, "SELECT count(*) FROM external_ids") == [13]


def test_a_merge_tells_who_says_what(connection: psycopg.Connection[Any]) -> None:
    written(connection, detailed("a", year=2000))
    written(
        connection,
        FoundPaper(
            "openalex",
            {"openalex": "W1"},
            "Second",
            "Text.",
            2001,
            detailed=True,
            authors=(FoundAuthor("N"),),
        ),
    )
    written(connection, FoundPaper(SCHOLAR, {SCHOLAR: "a", "openalex": "W1"}))

    query = "SELECT title, abstract, year, provenance, field_provenance FROM papers"
    origins = {"abstract": "openalex", "authors": "openalex"}
    assert rows(connection, query) == [("Title of a", "Text.", 2000, SCHOLAR, origins)]


@pytest.mark.parametrize(
    "title", ["../[[a]]: #|^%%", "👩‍🔬 عنوان", "x" * 4000, "'; DROP TABLE papers; --", "\\N\t{}"]
)
def test_any_title_is_stored_as_it_is(connection: psycopg.Connection[Any], title: str) -> None:
    written(connection, paper("a", title=title), FoundPaper(SCHOLAR, {}, title))

    assert rows(connection, "SELECT title FROM papers") == [title, title]


def test_two_writers_of_overlapping_pages_make_the_same_graph_as_one(
    target: Target, connection: psycopg.Connection[Any]
) -> None:
    def pages(worker: int) -> Iterator[tuple[FoundPaper, list[FoundPaper]]]:
        for number in range(12):
            start = (number * 5 + worker * 7) % 12
            ends = [
                paper(f"p{(start * one) % 40}", ids={"doi": f"10.1/{(start * one) % 20}"})
                for one in range(30)
            ]
            yield paper(f"s{start}"), ends[:: 1 if worker else -1]

    def work(worker: int) -> None:
        with target.connect(SESSION) as own:
            for start, ends in pages(worker):
                linked(own, start, ends)

    def shape() -> list[Any]:
        ids = "(SELECT array_agg(value ORDER BY value) FROM external_ids WHERE paper_id = {})"
        query = f"SELECT {ids.format('citing_id')}, {ids.format('cited_id')} FROM citations ORDER BY 1, 2"
        return rows(connection, query)

    work(0)
    alone = shape()
    connection.execute("TRUNCATE papers CASCADE")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (0, 1)))

    assert shape() == alone
    assert len(alone) > 100


def test_a_deadlock_with_something_else_is_tried_again(connection: psycopg.Connection[Any]) -> None:
    attempts: list[int] = []

    def work(cursor: psycopg.Cursor[Any]) -> list[int]:
        ids = write_papers(cursor, [paper("a")])
        attempts.append(1)
        if len(attempts) < 3:
            raise psycopg.errors.DeadlockDetected
        return ids

    assert len(retried(connection, work)) == 1
    assert rows(connection, "SELECT count(*) FROM papers") == [1]
