"""The faults of the fake providers occur where the specification says, the same ones each time."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from refnet.demo.fake_faults import CONTENT_FAULTS, Faults
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import running

GRAPH = FakeGraph(60, 500)


def statuses(spec: str, asked: list[str]) -> list[int]:
    with running(GRAPH, Faults.read(spec)) as server, httpx.Client(base_url=server.url) as client:
        return [client.get(path).status_code for path in asked]


def test_a_fault_occurs_at_the_requests_that_are_named() -> None:
    paper, edges = f"/paper/{GRAPH.paper_id(9)}", f"/paper/{GRAPH.paper_id(9)}/references"
    assert statuses("429@2-3,500@5", [paper] * 6) == [200, 429, 429, 200, 500, 200]
    assert statuses("references:503@2", [paper, edges, paper, edges, paper, edges]) == [
        200,
        200,
        200,
        503,
        200,
        200,
    ]
    half = statuses("504%50", [paper] * 40)
    assert half == statuses("504%50", [paper] * 40)
    assert 8 < Counter(half)[504] < 32


def test_retry_after_is_sent_only_with_a_number() -> None:
    with running(GRAPH, Faults.read("429=7@1,429@2")) as server:
        answers = [httpx.get(f"{server.url}/paper/{GRAPH.paper_id(1)}") for _ in range(2)]
    assert [one.headers.get("Retry-After") for one in answers] == ["7", None]


def test_html_and_half_an_answer_come_with_status_200() -> None:
    with running(GRAPH, Faults.read("html@1,truncated@2")) as server:
        page, half = (httpx.get(f"{server.url}/paper/{GRAPH.paper_id(1)}") for _ in range(2))
    assert page.status_code == half.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    with pytest.raises(ValueError):
        half.json()


@pytest.mark.parametrize("spec", ["closed@1", "stall@1"])
def test_a_connection_is_closed_or_stalls(spec: str) -> None:
    with running(GRAPH, Faults.read(spec)) as server:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/paper/{GRAPH.paper_id(1)}", timeout=0.3)
        assert httpx.get(f"{server.url}/paper/{GRAPH.paper_id(1)}").status_code == 200


def test_content_is_spoilt_for_the_share_of_papers() -> None:
    ids = [GRAPH.paper_id(number) for number in range(60)]
    seen: dict[str, Any] = {}
    for kind in CONTENT_FAULTS:
        with running(GRAPH, Faults.read(f"{kind}%50")) as server, httpx.Client(base_url=server.url) as client:
            papers = client.post("/paper/batch?fields=title,year", json={"ids": ids}).json()
            edges = [client.get(f"/paper/{one}/references").json()["data"] for one in ids]
        seen[kind] = papers, edges
    whole = sum(len(GRAPH.references(number)) for number in range(60))
    assert sum(GRAPH.text(number).title != one["title"] for number, one in enumerate(seen["titles"][0])) > 10
    assert {type(one["year"]) for one in seen["types"][0]} == {int, str}
    assert {type(one["title"]) for one in seen["nulls"][0]} == {str, type(None)}
    assert sum(map(len, seen["duplicates"][1])) > whole + 30
    assert any(
        one["citedPaper"]["paperId"] == ids[n] for n, page in enumerate(seen["self"][1]) for one in page
    )
    assert 0 < sum(map(len, seen["withheld"][1])) < whole * 0.9


@pytest.mark.parametrize("spec", ["418@1", "429", "429@", "html@1-", "titles@3", "429=x@1", "429@1;500@2"])
def test_another_specification_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r"not a fault|needs a percentage"):
        Faults.read(spec)


def test_openalex_knows_the_same_papers() -> None:
    number = 40
    with running(GRAPH) as server, httpx.Client(base_url=server.openalex_url) as client:
        work = client.get(f"/works/doi:{GRAPH.doi(number)}").json()
        same = client.get(f"/works/{GRAPH.openalex_id(number)}").json()
        unknown = client.get("/works/W1")
        some = client.get(
            "/works",
            params={
                "filter": f"openalex:{'|'.join(map(GRAPH.openalex_id, GRAPH.cites(number)))}",
                "per-page": 200,
            },
        ).json()
        refused = client.get("/works", params={"filter": "color:red"})
    assert work == same
    assert work["referenced_works"] == [
        f"https://openalex.org/{GRAPH.openalex_id(n)}" for n in GRAPH.cites(number)
    ]
    assert [one["title"] for one in some["results"]] == [GRAPH.text(n).title for n in GRAPH.cites(number)]
    assert (unknown.status_code, unknown.headers["Content-Type"][:9]) == (404, "text/html")
    assert refused.status_code == 403
    words = sorted((at, word) for word, places in work["abstract_inverted_index"].items() for at in places)
    assert " ".join(word for _, word in words) == GRAPH.text(number).abstract()


def test_every_answer_is_json_that_python_reads() -> None:
    with running(GRAPH, Faults.read("titles%100")) as server:
        for number in range(10):
            json.loads(httpx.get(f"{server.url}/paper/{GRAPH.paper_id(number)}").content)


def test_a_fault_of_one_provider_is_none_of_the_other() -> None:
    with running(GRAPH, Faults.read("work:503%100")) as server:
        work = httpx.get(f"{server.openalex_url}/works/{GRAPH.openalex_id(4)}")
        paper = httpx.get(f"{server.url}/paper/{GRAPH.paper_id(4)}")
        assert (work.status_code, paper.status_code, dict(server.counts)) == (
            503,
            200,
            {"work": 1, "paper": 1},
        )
