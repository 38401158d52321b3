"""Works of OpenAlex: one as its documentation shows it, the fake server's, and nonsense."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from refnet.demo.fake_answers import OpenAlexAnswers
from refnet.demo.fake_graph import FakeGraph
from refnet.network.openalex_answers import cited_by, references, work, works
from refnet.network.papers import AnswerError, FoundAuthor, FoundPaper

ID = "https://openalex.org/W2741809807"
WORK: dict[str, Any] = {
    "id": ID,
    "doi": "https://doi.org/10.7717/PeerJ.4375",
    "title": "The state of OA",
    "display_name": "The state of OA",
    "publication_year": 2018,
    "publication_date": "2018-02-13",
    "ids": {
        "openalex": ID, "doi": "https://doi.org/10.7717/peerj.4375", "mag": "2741809807",
        "pmid": "https://pubmed.ncbi.nlm.nih.gov/29456894", "pmcid": "https://www.ncbi.nlm.nih.gov/pmc/articles/5815332",
    },
    "primary_location": {
        "source": {"id": "https://openalex.org/S1983995261", "display_name": "PeerJ", "type": "journal"},
        "pdf_url": "https://peerj.com/articles/4375.pdf",
    },
    "type": "article",
    "open_access": {"is_oa": True, "oa_url": "https://peerj.com/articles/4375"},
    "authorships": [
        {"author": {"display_name": "Heather Piwowar", "orcid": "https://orcid.org/0000-0003-1613-5981"}},
        {"author": {"display_name": None}, "raw_author_name": "Jason Priem"},
        {"author": None},
    ],
    "primary_topic": {"display_name": "Scholarly publishing", "field": {"display_name": "Computer Science"}},
    "cited_by_count": 1002,
    "referenced_works_count": 35,
    "biblio": {"volume": "6", "issue": None, "first_page": "e4375", "last_page": "e4375"},
    "referenced_works": ["https://openalex.org/W1", "W2", "https://openalex.org/W1", ID, None, "x"],
    "abstract_inverted_index": {"Despite": [0], "growing": [1], "interest": [2, 5], "in": [3, 6], "OA,": [4]},
}  # fmt: skip


def test_a_work_is_read_in_every_field() -> None:
    assert work(WORK) == FoundPaper(
        "openalex",
        {"openalex": "W2741809807", "doi": "10.7717/peerj.4375", "mag": "2741809807", "pubmed": "29456894", "pmc": "5815332"},
        "The state of OA",
        "Despite growing interest in OA, interest in",
        2018,
        date(2018, 2, 13),
        "PeerJ",
        journal={"name": "PeerJ", "volume": "6", "pages": "e4375-e4375"},
        publication_types=("article",),
        fields_of_study=("Computer Science",),
        open_access_url="https://peerj.com/articles/4375.pdf",
        reference_count=35,
        citation_count=1002,
        authors=(FoundAuthor("Heather Piwowar", orcid="0000-0003-1613-5981"), FoundAuthor("Jason Priem")),
        detailed=True,
    )  # fmt: skip
    assert references(WORK) == ("W1", "W2")


def test_the_doi_of_a_preprint_names_its_arxiv_id() -> None:
    found = work({"id": "W1", "doi": "https://doi.org/10.48550/arXiv.1706.03762"})

    assert found is not None
    assert found.ids == {"openalex": "W1", "doi": "10.48550/arxiv.1706.03762", "arxiv": "1706.03762"}


def test_every_work_of_the_fake_server_is_read() -> None:
    fake = OpenAlexAnswers(FakeGraph(30, 90, 1))
    answers = [fake.work(number) for number in range(30)]
    found = works({"meta": {}, "results": answers})

    assert [one.title for one in found] == [answer["title"] for answer in answers]
    assert all(one.abstract and one.authors and one.ids["openalex"] for one in found)
    assert sum(len(references(answer)) for answer in answers) >= 80


INDEXES: list[Any] = [
    [], "x", {"a": 1}, {"a": [-1]}, {"a": ["0"]}, {"a": [True]}, {"a": list(range(30_000))}, {}, {"\0": [0]},
    {str(number): [number] for number in range(30_000)},
]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        *({"abstract_inverted_index": index} for index in INDEXES),
        {"title": 5, "display_name": None, "publication_year": "2018", "publication_date": "yesterday"},
        {"primary_location": "x", "open_access": [], "biblio": 3, "primary_topic": [{}], "authorships": {}},
        {"ids": [], "doi": "none", "cited_by_count": "many"},
    ],
)
def test_a_field_of_a_wrong_type_is_dropped_and_the_rest_stays(changed: dict[str, Any]) -> None:
    found = work({"id": ID, "language": "en", **changed})

    assert found == FoundPaper("openalex", {"openalex": "W2741809807"}, detailed=True)


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"error": "Not found"}, {"results": []}])
def test_what_is_not_a_work_is_an_error(answer: object) -> None:
    with pytest.raises(AnswerError):
        work(answer)
    with pytest.raises(AnswerError):
        references(answer)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"results": None}, {"results": {}}, {"results": [{}] * 1001}]
)
def test_what_is_not_a_list_of_works_is_an_error(answer: object) -> None:
    with pytest.raises(AnswerError):
        works(answer)


def test_entries_that_are_no_works_are_left_out() -> None:
    assert [one.ids for one in works({"results": [None, {}, {"id": None}, {"id": "W7"}]})] == [
        {"openalex": "W7"}
    ]


@pytest.mark.parametrize(
    ("meta", "cursor"),
    [
        ({"next_cursor": "abc"}, "abc"), ({"next_cursor": None}, ""), ({"next_cursor": 7}, ""), ({"next_cursor": ["x"]}, ""),
        ({}, ""), (None, ""), ("x", ""), ({"next_cursor": "x" * 5000}, "x" * 1000), ({"next_cursor": "a\0\nb"}, "a b"),
    ],
)  # fmt: skip
def test_a_page_of_citing_works_names_the_next_one(meta: object, cursor: str) -> None:
    page = cited_by({"meta": meta, "results": [{"id": "W7", "title": "A"}]})

    assert (page.cursor, page.next) == (cursor, None)
    assert [(one.paper.ids, one.paper.detailed) for one in page.edges] == [({"openalex": "W7"}, False)]
    assert cited_by({"meta": meta, "results": []}).cursor == ""
