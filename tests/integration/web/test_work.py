"""`/api/crawls` and `/api/jobs`: what starts a crawl, what refuses to, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.web.conftest import TOKEN
from tests.serving import Answer, Served, serving

from refnet.core.processes import until
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import Running, running
from refnet.postgres.session import Target

GRAPH = FakeGraph(60, 300, 1)


@pytest.fixture(scope="module")
def fake() -> Iterator[Running]:
    with running(GRAPH) as found:
        yield found


@pytest.fixture(scope="module")
def crawling(environment: dict[str, str], fake: Running) -> Iterator[Served]:
    """One with a token; a process of its own does each crawl."""
    provider = {"REFNET_CRAWL_SEMANTIC_SCHOLAR_URL": fake.url, "REFNET_CRAWL_OPENALEX_URL": fake.openalex_url}
    rate = {"REFNET_CRAWL_REQUESTS_PER_SECOND": "0"}
    with serving(environment | provider | rate | {"REFNET_WEB_TOKEN": TOKEN}) as found:
        yield found


def post(served: Served, wanted: Any, **headers: str) -> Answer:
    given = {"Content_Type": "application/json", "Authorization": f"Bearer {TOKEN}"} | headers
    return served.ask("/api/crawls", "POST", json.dumps(wanted).encode(), **given)


def _ask(served: Served, path: str) -> Any:
    return served.ask(path, Authorization=f"Bearer {TOKEN}").json


def test_a_crawl_is_stored_done_by_a_process_and_shown_with_its_jobs(crawling: Served) -> None:
    wanted = {"seeds": [GRAPH.seed_ids[0].removeprefix("DOI:"), GRAPH.seed_ids[1]], "depth": 2, "limit": 20}
    said = post(crawling, wanted)
    assert (said.status, said.json["sent"], said.json["by"]) == (202, True, "process")
    number = said.json["id"]
    assert until(lambda: _ask(crawling, f"/api/crawls/{number}")["state"] == "succeeded", 60)
    shown = _ask(crawling, f"/api/crawls/{number}")
    assert (shown["depth"], shown["limit"], shown["papers"], sorted(shown["seeds"])) == (
        2,
        20,
        20,
        sorted(GRAPH.seed_ids[:2]),
    )
    assert set(shown["jobs"]) == {"succeeded"}
    page = _ask(crawling, "/api/crawls?limit=1")
    assert ([one["id"] for one in page["crawls"]], page["next"]) == ([number], None)
    assert _ask(crawling, f"/api/crawls?before={number}") == {"crawls": [], "next": None}


def test_jobs_are_listed_by_pages_the_newest_first_and_by_state(crawling: Served, network: Target) -> None:
    with network.connect({"search_path": "public"}) as connection:
        connection.execute(
            "INSERT INTO jobs (kind, state, error, finished_at) SELECT 'summarize', 'failed', 'no answer', now() FROM generate_series(1, 5)"
        )
    first = _ask(crawling, "/api/jobs?kind=summarize&state=failed&limit=3")
    rest = _ask(crawling, f"/api/jobs?kind=summarize&limit=3&before={first['next']}")
    numbers = [one["id"] for page in (first, rest) for one in page["jobs"]]
    assert (len(numbers), rest["next"], first["jobs"][0]["error"]) == (5, None, "no answer")
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize(
    "wanted",
    [
        {}, [], 1, None, {"seeds": []}, {"seeds": [""]}, {"seeds": ["not an id"]}, {"seeds": ["10.1/a\x00"]},
        {"seeds": ["x" * 1001]}, {"seeds": ["10.1/a"] * 1001}, {"seeds": [f"10.1/{n}" for n in range(3)], "limit": 2},
        {"seeds": ["10.1/a"], "depth": 11}, {"seeds": ["10.1/a"], "limit": 0}, {"seeds": ["10.1/a"], "direction": "up"},
        {"seeds": ["10.1/a"], "more": 1}, {"seeds": ["\ud800"]}, {"seeds": "10.1/a"},
    ],
    ids=lambda wanted: str(wanted)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_a_crawl_that_cannot_be_is_refused_in_two_lines(crawling: Served, wanted: Any) -> None:
    said = post(crawling, wanted)
    assert (said.status, list(said.json)) == (400, ["error", "hint"])


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 60_000, b'{"seeds": ' + b"9" * 5000 + b"}"])
def test_a_body_that_is_not_json_is_refused_in_two_lines(crawling: Served, body: bytes) -> None:
    said = crawling.ask(
        "/api/crawls", "POST", body, Content_Type="application/json", Authorization=f"Bearer {TOKEN}"
    )
    assert (said.status, list(said.json)) == (400, ["error", "hint"])


def test_only_small_same_site_json_with_the_token_starts_a_crawl(crawling: Served) -> None:
    wanted = {"seeds": ["10.1/never"]}
    assert post(crawling, wanted, Authorization="Bearer x").status == 401
    assert post(crawling, wanted, Origin="http://evil.example").status == 403
    assert post(crawling, wanted, Content_Type="text/plain").status == 400
    assert post(crawling, {"seeds": ["10.1/" + "x" * 900] * 100}).status == 413
    assert "10.1/never" not in str(_ask(crawling, "/api/crawls"))


def test_a_crawl_that_is_not_there_is_a_404(crawling: Served) -> None:
    assert crawling.ask("/api/crawls/99999", Authorization=f"Bearer {TOKEN}").status == 404
