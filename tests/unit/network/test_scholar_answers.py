"""Answers of Semantic Scholar: the recorded ones, and those of a server that answers nonsense."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from tests.shared_data import recorded_answers, recorded_paper

from refnet.network.papers import AnswerError, FoundAuthor, FoundEdge, FoundPaper, Tldr
from refnet.network.scholar_answers import edges, paper, papers

SHA = "2d5673caa9e6af3a7b82a43f19ee920992db07ad"


def found(**values: Any) -> FoundPaper:
    return FoundPaper("semantic_scholar", {"semantic_scholar": SHA}, detailed=True, **values)


def test_every_recorded_page_is_read_to_its_last_entry() -> None:
    citations = [edges(body, "citingPaper") for uri, body in recorded_answers() if "/citations?" in uri]
    references = [edges(body, "citedPaper") for uri, body in recorded_answers() if "/references?" in uri]

    assert [page.next for page in citations] == [*range(100, 1801, 100), None]
    assert [len(page.edges) for page in citations] == [100] * 18 + [81]
    assert [(page.next, len(page.edges)) for page in references] == [(50, 50), (None, 17)]
    ends = [edge.paper for page in references for edge in page.edges]
    assert sum(not end.ids for end in ends) == 23
    assert all(end.title for end in ends)


def test_recorded_batches_keep_their_order_and_their_unknown_ids() -> None:
    batches = [papers(body, len(body)) for uri, body in recorded_answers() if "/batch?" in uri]

    assert [[one and len(one.authors) for one in batch] for batch in batches] == [[3, 4, 3], [None, 3, 4, 3]]
    assert batches[1][3] is not None
    assert batches[1][3].ids["doi"] == "10.1257/rct.1355"


def test_recorded_errors_are_not_papers() -> None:
    errors = [body for _uri, body in recorded_answers() if "error" in body]

    assert len(errors) == 3
    for body in errors:
        with pytest.raises(AnswerError):
            paper(body)
        with pytest.raises(AnswerError):
            edges(body, "citedPaper")


def test_a_recorded_paper_is_read_in_every_field() -> None:
    turing = paper(recorded_paper())

    assert turing is not None
    assert turing.title == "Computing Machinery and Intelligence"
    assert turing.published_on == date(1950, 10, 1)
    assert turing.ids == {
        "semantic_scholar": SHA, "corpus_id": "14636783", "doi": "10.1093/mind/lix.236.433", "mag": "2145482038",
        "dblp": "journals/x/Turing50",
    }  # fmt: skip
    assert turing.journal == {"name": "Mind", "volume": "LIX", "pages": "433-460"}
    assert turing.authors == (FoundAuthor("A. Turing", "2262347"),)
    assert turing.tldr is not None
    assert turing.tldr.model == "tldr@v2.0.0"
    assert (turing.reference_count, turing.citation_count, turing.influential_citation_count) == (
        14,
        10059,
        530,
    )


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"title": "A  title\n"}, {"title": "A title"}),
        ({"title": None}, {}),
        ({"title": ["A title"]}, {}),
        ({"title": "\0"}, {}),
        ({"title": "x" * 5000}, {"title": "x" * 4000}),
        ({"title": "[[a]] ../b: \ud800c"}, {"title": "[[a]] ../b: c"}),
        ({"abstract": "One.\n\nTwo."}, {"abstract": "One.\nTwo."}),
        ({"year": 1950}, {"year": 1950}),
        ({"year": "1950"}, {}),
        ({"year": True}, {}),
        ({"year": 30000}, {}),
        ({"publicationDate": "1950-10-01"}, {"published_on": date(1950, 10, 1)}),
        ({"publicationDate": "1950-02-30"}, {}),
        ({"publicationDate": "0001-01-01"}, {}),
        ({"publicationDate": 1950}, {}),
        ({"venue": ""}, {}),
        ({"publicationVenue": {"name": "J", "url": "javascript:x", "x": 1}}, {"publication_venue": {"name": "J"}}),
        ({"publicationVenue": "J"}, {}),
        ({"journal": {"name": "", "volume": " "}}, {}),
        ({"journal": {"name": "J", "pages": 7}}, {"journal": {"name": "J"}}),
        ({"publicationTypes": ["Review", "Review", None, 3]}, {"publication_types": ("Review",)}),
        ({"publicationTypes": "Review"}, {}),
        ({"fieldsOfStudy": ["x"] * 300}, {"fields_of_study": ("x",)}),
        ({"fieldsOfStudy": None, "s2FieldsOfStudy": [{"category": "x"}, {"category": "y", "source": "z"}, {}, 5]}, {"fields_of_study": ("x", "y")}),
        ({"fieldsOfStudy": ["y"], "s2FieldsOfStudy": [{"category": "x"}, {"category": "y"}]}, {"fields_of_study": ("y", "x")}),
        ({"s2FieldsOfStudy": "x"}, {}),
        ({"s2FieldsOfStudy": 7}, {}),
        ({"openAccessPdf": {"url": "https://a.example/b.pdf"}}, {"open_access_url": "https://a.example/b.pdf"}),
        ({"openAccessPdf": {"url": ""}}, {}),
        ({"openAccessPdf": {"url": "file:///etc/passwd"}}, {}),
        ({"citationCount": -1, "referenceCount": 1 << 40, "influentialCitationCount": 2.5}, {}),
        ({"authors": [{"authorId": None, "name": "A"}, {"name": ""}, {}, 5]}, {"authors": (FoundAuthor("A"),)}),
        ({"authors": {"name": "A"}}, {}),
        ({"tldr": {"model": "m", "text": "Short."}}, {"tldr": Tldr("Short.", "m")}),
        ({"tldr": {"model": "m", "text": None}}, {}),
        ({"tldr": "Short."}, {}),
        ({"externalIds": [1], "url": 5, "unknown": {}}, {}),
        ({"externalIds": {"DOI": None, "Medline": "1", "MAG": {"a": 1}, "ArXiv": "zzz"}}, {}),
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_dropped_and_the_rest_stays(
    fields: dict[str, Any], kept: dict[str, Any]
) -> None:
    assert paper({"paperId": SHA, **fields}) == found(**kept)


@pytest.mark.parametrize("answer", [{"paperId": None, "title": None}, {"paperId": 7}, {"title": " "}, None])
def test_a_paper_without_id_and_title_is_none(answer: object) -> None:
    assert paper(answer) is None


@pytest.mark.parametrize("answer", [[], "x", 5, True, {}, {"error": "Paper with id 0 not found"}])
def test_what_is_not_a_paper_is_an_error(answer: object) -> None:
    with pytest.raises(AnswerError):
        paper(answer)


@pytest.mark.parametrize("answer", [None, {}, [], [None], [None, None, None], {"data": []}])
def test_a_batch_of_another_length_is_an_error(answer: object) -> None:
    with pytest.raises(AnswerError, match="not a list of 2 papers"):
        papers(answer, 2)


def test_one_broken_entry_costs_a_batch_one_paper() -> None:
    assert papers([{"paperId": SHA}, "x"], 2) == [found(), None]


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, {"error": "Not found"}, {"data": {}}, {"data": "x"}, {"data": [1, None, "x"]},
        {"data": [{}] * 10_001}, {"data": [], "next": "100"}, {"data": [], "next": True},
        {"data": [], "offset": 100, "next": 100}, {"data": [], "offset": 100, "next": 50},
        {"data": [], "offset": None, "next": 50}, {"data": [], "next": 1 << 40},
    ],
)  # fmt: skip
def test_what_is_not_a_page_is_an_error(answer: object) -> None:
    with pytest.raises(AnswerError):
        edges(answer, "citedPaper")


def test_entries_that_are_no_citations_are_left_out() -> None:
    entries = [
        {"citedPaper": {"paperId": SHA.upper(), "title": "A"}, "isInfluential": "yes", "intents": "x"},
        {"citedPaper": None},
        {"citingPaper": {"paperId": SHA}},
        {"citedPaper": {"paperId": None, "title": "Only a title", "year": "1999"}, "isInfluential": True},
        {"citedPaper": {"paperId": None, "title": None}},
        "nonsense",
    ]
    page = edges({"offset": 0, "next": 6, "data": entries}, "citedPaper")

    assert page.edges == (
        FoundEdge(FoundPaper("semantic_scholar", {"semantic_scholar": SHA}, "A")),
        FoundEdge(FoundPaper("semantic_scholar", {}, "Only a title"), is_influential=True),
    )
    assert page.next == 6


def test_the_contexts_of_a_citation_have_their_intents() -> None:
    end = {"citingPaper": {"title": "A"}}
    right = {"contextsWithIntent": [{"context": "See [1].", "intents": ["result", 1]}, {"context": None}, 2]}
    page = edges({"data": [end | right, end | {"contextsWithIntent": "x"}]}, "citingPaper")

    assert [edge.contexts for edge in page.edges] == [({"context": "See [1].", "intents": ["result"]},), ()]


def test_a_list_that_its_publisher_withdrew_is_an_empty_page() -> None:
    assert edges({"offset": 0, "data": None, "citingPaperInfo": {}}, "citedPaper").edges == ()
