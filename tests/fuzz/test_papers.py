"""Answers of Semantic Scholar and OpenAlex, as a broken or hostile provider sends them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents, texts

from refnet.core import checked
from refnet.network import openalex_answers, scholar_answers
from refnet.network.papers import FoundPaper, normalized, title_key

PAPER: dict[str, Any] = {
    "paperId": "2d5673caa9e6af3a7b82a43f19ee920992db07ad", "corpusId": 7, "externalIds": {"DOI": "10.1/A", "MAG": "5"},
    "title": "A title", "abstract": "One.\nTwo.", "venue": "V", "year": 1950, "publicationDate": "1950-10-01",
    "publicationVenue": {"id": "v", "name": "V", "alternate_names": ["W"], "url": "https://a.example"},
    "journal": {"name": "J", "volume": "1"}, "publicationTypes": ["Review"], "fieldsOfStudy": ["Physics"],
    "s2FieldsOfStudy": [{"category": "Biology", "source": "s2-fos-model"}],
    "openAccessPdf": {"url": "https://a.example/b.pdf"}, "referenceCount": 1, "citationCount": 2,
    "influentialCitationCount": 0, "authors": [{"authorId": "1", "name": "N"}], "tldr": {"model": "m", "text": "Short."},
}  # fmt: skip
LINKED = PAPER | {"references": [PAPER, {"paperId": None, "title": "T"}], "citations": [PAPER]}
PAGE = {
    "offset": 0, "next": 1,
    "data": [{
        "contextsWithIntent": [{"context": "See [1].", "intents": ["result"]}], "contexts": ["See [1]."],
        "intents": ["result"], "isInfluential": True, "citedPaper": PAPER,
    }],
}  # fmt: skip
WORK = {
    "id": "https://openalex.org/W1", "doi": "https://doi.org/10.1/a", "ids": {"mag": 5, "pmid": "7"}, "title": "A title",
    "publication_year": 1950, "publication_date": "1950-10-01", "type": "article", "cited_by_count": 2,
    "primary_location": {"source": {"display_name": "J", "type": "journal"}, "pdf_url": "https://a.example"},
    "authorships": [{"author": {"display_name": "N", "orcid": "https://orcid.org/0000-0003-1613-5981"}}],
    "biblio": {"volume": "1", "first_page": "2"}, "referenced_works_count": 1, "referenced_works": ["https://openalex.org/W2"],
    "abstract_inverted_index": {"One": [0, 2], "two": [1]}, "primary_topic": {"field": {"display_name": "Physics"}},
}  # fmt: skip


def answers(value: object) -> Any:
    return documents(value, json.dumps(value).encode())


def assert_text(value: Any) -> None:
    """Every text in `value` is one that PostgreSQL stores."""
    if isinstance(value, str):
        assert value.encode()
        assert "\0" not in value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.items() if isinstance(value, dict) else value:
            assert_text(one)


def assert_storable(papers: Iterable[FoundPaper]) -> None:
    for paper in papers:
        assert paper.ids or paper.title
        assert_text(asdict(paper))
        for scheme, value in paper.ids.items():
            assert normalized(scheme, value) == value
        assert paper.ids or len((title_key(paper.title or "") or "").encode()) in range(1, 1025)
        assert len(paper.title or "x") in range(1, 4001)
        assert paper.year is None or 1000 <= paper.year < 3000
        for count in (paper.reference_count, paper.citation_count, paper.influential_citation_count):
            assert count is None or 0 <= count < 1 << 31
        assert all(0 < len(author.name) <= 500 for author in paper.authors)


@fuzzed
@given(answers(LINKED))
def test_a_paper_of_semantic_scholar_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: scholar_answers.linked(checked.parsed(data)), ValueError)
    if found is not None:
        assert_storable([found.paper, *(edge.paper for edge in (*found.references, *found.citations))])


@fuzzed
@given(answers([PAPER, None]))
def test_a_batch_of_semantic_scholar_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: scholar_answers.papers(checked.parsed(data), 2), ValueError)
    if found is not None:
        assert len(found) == 2
        assert_storable(one for one in found if one)


@fuzzed
@given(answers(PAGE))
def test_a_page_of_semantic_scholar_is_read_or_refused(data: bytes) -> None:
    page = outcome(lambda: scholar_answers.edges(checked.parsed(data), "citedPaper"), ValueError)
    if page is not None:
        assert page.next is None or page.next > 0
        assert_storable(edge.paper for edge in page.edges)
        assert_text([(edge.contexts, edge.intents) for edge in page.edges])


@fuzzed
@given(answers(WORK))
def test_a_work_of_openalex_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: openalex_answers.work(checked.parsed(data)), ValueError)
    outcome(
        lambda: openalex_answers.cited_by({"results": [checked.parsed(data)], "meta": checked.parsed(data)}),
        ValueError,
    )
    references = outcome(lambda: openalex_answers.references(checked.parsed(data)), ValueError)
    assert all(normalized("openalex", one) == one for one in references or ())
    assert_storable([found] if found else [])


@fuzzed
@given(texts)
def test_every_title_has_a_key_that_an_index_takes(title: str) -> None:
    key = outcome(lambda: title_key(title))
    assert key is None or 0 < len(key.encode()) <= 1024
