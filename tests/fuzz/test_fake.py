"""Requests to the fake providers, ids in any form, and specifications of faults."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed
from tests.fuzz.strategies import texts

from refnet.demo.fake_answers import OpenAlexAnswers, ScholarAnswers
from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph

GRAPH = FakeGraph(20, 60)
SCHOLAR, WORKS = ScholarAnswers(GRAPH, Faults()), OpenAlexAnswers(GRAPH)
_FORMS = [
    "",
    "DOI:",
    "ARXIV:",
    "MAG:",
    "ACL:",
    "PMID:",
    "PMCID:",
    "CorpusId:",
    "DBLP:",
    "W",
    "URL:",
]
_IDS = [
    GRAPH.doi(3),
    GRAPH.paper_id(3),
    "10.5555/sample.1.00000²",
    "10.5555/sample.1.",
    "9" * 5000,
    "2009.00003v1",
    "²",
]
_QUERIES = st.dictionaries(
    st.sampled_from(["fields", "offset", "limit", "filter", "cursor", "per-page", "select"]),
    texts
    | st.sampled_from(
        ["-1", "1e3", "²", "9" * 5000, "doi:10.1/x|", "cites:", ",", "title,year", "authors.x", "*"]
    ),
)


@fuzzed
@given(form=st.sampled_from(_FORMS), value=texts | st.sampled_from(_IDS))
def test_any_id_leads_to_a_paper_or_nowhere(form: str, value: str) -> None:
    for found in (GRAPH.find(form + value), WORKS.find(form + value)):
        assert found is None or 0 <= found < GRAPH.papers


@fuzzed
@given(
    path=texts | st.sampled_from(_IDS), end=st.sampled_from(["", "/references", "/citations"]), query=_QUERIES
)
def test_any_request_is_answered(path: str, end: str, query: dict[str, str]) -> None:
    for answer in (
        SCHOLAR.answer("GET", path + end, query, b""),
        WORKS.answer(f"works/{path}", query),
        WORKS.answer("works", query),
    ):
        assert answer.status in {200, 400, 403, 404}
        json.dumps(answer.body)


@fuzzed
@given(
    body=st.binary(max_size=200)
    | texts.map(str.encode)
    | st.lists(texts).map(lambda ids: json.dumps({"ids": ids}).encode())
)
@example(b"[" * 100_000)
def test_any_body_is_answered(body: bytes) -> None:
    assert SCHOLAR.answer("POST", "batch", {}, body).status in {200, 400}


@fuzzed
@given(
    text=texts
    | st.lists(st.sampled_from(["429", "html", "titles", "@", "%", "=", "-", ":", ",", "1", "²"])).map(
        "".join
    )
)
def test_a_specification_is_read_or_refused(text: str) -> None:
    try:
        faults = Faults.read(text)
    except ValueError:
        return
    faults.of_request("paper", 1, 1)
