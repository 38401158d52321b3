"""The fake Semantic Scholar answers as the Graph API does, with a graph that is the same each time."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from refnet.demo import fake_answers
from refnet.demo.fake_graph import FakeGraph
from refnet.demo.fake_scholar import Running, main, running

GRAPH = FakeGraph(200, 1500, seed=3)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(GRAPH) as made:
        yield made


def ask(url: str, body: object = None) -> Any:
    answer = httpx.get(url) if body is None else httpx.post(url, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(url: str, body: object = None) -> tuple[int, str]:
    answer = httpx.get(url) if body is None else httpx.post(url, json=body)
    return answer.status_code, answer.json()["error"]


def every_page(url: str) -> list[Any]:
    items: list[Any] = []
    offset: int | None = 0
    while offset is not None:
        page = ask(f"{url}&offset={offset}")
        assert page["offset"] == offset
        items += page["data"]
        offset = page.get("next")
    return items


def test_the_graph_has_the_edges_that_were_asked_for_and_is_connected() -> None:
    edges = {(n, other) for n in range(GRAPH.papers) for other in GRAPH.cites(n)}
    assert len(edges) == 1500
    assert all(other < n for n, other in edges)
    assert all(len(GRAPH.cites(n)) for n in range(1, GRAPH.papers))
    assert edges == {(other, n) for n in range(GRAPH.papers) for other in GRAPH.cited_by(n)}
    assert FakeGraph(200, 1500, seed=3).references(150) == GRAPH.references(150)
    assert FakeGraph(200, 1500, seed=4).text(150) != GRAPH.text(150)


@pytest.mark.parametrize("number", [0, 2, 90, 150, 198])
def test_every_form_of_id_leads_to_the_paper(number: int) -> None:
    ids = GRAPH.external_ids(number)
    forms = {"ArXiv": "ARXIV", "PubMed": "PMID", "PubMedCentral": "PMCID", "CorpusId": "CorpusId"}
    paper_id = GRAPH.paper_id(number)
    for form in (
        paper_id,
        str(ids["DOI"]).upper(),
        *(f"{forms.get(scheme, scheme)}:{value}" for scheme, value in ids.items() if scheme != "DBLP"),
        *(f"ARXIV:{value}v2" for scheme, value in ids.items() if scheme == "ArXiv"),
    ):
        assert GRAPH.find(form) == number, form


@pytest.mark.parametrize(
    "unknown", ["0", "", ":", "DOI:", "DOI:10.1/x", "CorpusId:1", "CorpusId:-1", "MAG:x", "ARXIV:2101.00003", "f" * 40, "URL:x", "ACL:2020.sample-1.999999999", "PMID:" + "9" * 400]
)  # fmt: skip
def test_other_ids_lead_nowhere(unknown: str) -> None:
    assert GRAPH.find(unknown) is None


def test_a_paper_has_the_fields_that_are_asked_for(server: Running) -> None:
    paper_id = GRAPH.paper_id(7)
    assert set(ask(f"{server.url}/paper/{GRAPH.seed_ids[0]}")) == {"paperId", "title"}
    paper = ask(f"{server.url}/paper/{paper_id}?fields=year,authors.name,references.title,externalIds")
    assert paper == {
        "paperId": paper_id,
        "year": GRAPH.year(7),
        "externalIds": GRAPH.external_ids(7),
        "authors": [{"authorId": key, "name": name} for key, name in GRAPH.people(7)],
        "references": [{"paperId": GRAPH.paper_id(n), "title": GRAPH.text(n).title} for n in GRAPH.cites(7)],
    }


def test_a_batch_keeps_the_order_and_says_null_for_an_unknown_id(server: Running) -> None:
    ids = ["DOI:" + GRAPH.doi(5), "MAG:1", GRAPH.paper_id(3)]
    found = ask(f"{server.url}/paper/batch?fields=corpusId", {"ids": ids})
    assert [one and one["paperId"] for one in found] == [GRAPH.paper_id(5), None, GRAPH.paper_id(3)]
    assert server.counts["batch"] >= 1
    assert server.requests[-1].path.endswith("/paper/batch")


@pytest.mark.parametrize("direction", ["references", "citations"])
def test_pages_hold_every_edge_once(server: Running, direction: str) -> None:
    items = every_page(
        f"{server.url}/paper/{GRAPH.paper_id(100)}/{direction}?fields=title,intents,isInfluential,contexts&limit=7"
    )
    end = "citedPaper" if direction == "references" else "citingPaper"
    known = [one[end]["paperId"] for one in items if one[end]["paperId"]]
    expected = GRAPH.cites(100) if direction == "references" else GRAPH.cited_by(100)
    assert sorted(known) == sorted(map(GRAPH.paper_id, expected))
    assert all(one[end]["title"] for one in items)
    count = ask(f"{server.url}/paper/{GRAPH.paper_id(100)}?fields=referenceCount,citationCount")
    assert len(items) == count["referenceCount" if direction == "references" else "citationCount"]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/paper/0?fields=title", None, (404, "Paper with id 0 not found")),
        ("/paper/0/references", None, (404, "Paper with id 0 not found")),
        ("/paper/0?fields=unknown,title,x", None, (400, "Unrecognized or unsupported fields: [unknown, x]")),
        ("/paper/0/citations?limit=0", None, (400, "Unacceptable query params: [limit=0]")),
        ("/paper/0/citations?limit=1001", None, (400, "Unacceptable query params: [limit=1001]")),
        ("/paper/0/citations?offset=10000", None, (400, "Unacceptable query params: [offset=10000]")),
        ("/paper/0/citations?offset=-1", None, (400, "Unacceptable query params: [offset=-1]")),
        ("/paper/0/citations?fields=tldr", None, (400, "Unrecognized or unsupported fields: [tldr]")),
        ("/paper/batch", {"ids": ["x"]}, (400, "No valid paper ids given")),
        ("/paper/batch", {"ids": ["x"] * 501}, (400, "Too many ids: at most 500 are accepted")),
        ("/paper/batch", {"ids": 1}, (400, "The request body must contain a list of ids")),
        ("/author/1", None, (404, "Not found")),
    ],
)
def test_errors_are_those_of_the_api(
    server: Running, path: str, body: object, answer: tuple[int, str]
) -> None:
    assert refused(server.url + path, body) == answer


def test_nothing_is_given_past_the_last_citation(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_answers, "_LAST", 20)  # the API's is 10,000
    url = f"{server.url}/paper/{GRAPH.paper_id(0)}/citations?fields=paperId&limit=10"
    first, last = ask(f"{url}&offset=0"), ask(f"{url}&offset=10")
    assert GRAPH.paper(0)["citationCount"] > 20
    assert (first["next"], len(last["data"]), "next" in last) == (10, 10, False)


def test_a_client_that_goes_away_is_no_error(server: Running, capfd: pytest.CaptureFixture[str]) -> None:
    address = httpx.URL(server.url)
    for _ in range(5):
        with socket.create_connection((address.host, address.port)) as client:
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # a reset, not an end
            client.sendall(f"GET {address.path}/paper/{GRAPH.paper_id(1)} HTTP/1.1\r\n\r\n".encode() * 200)
    assert ask(f"{server.url}/paper/{GRAPH.paper_id(1)}")
    assert capfd.readouterr().err == ""


def test_the_command_prints_its_address_first_and_ends_with_its_parent() -> None:
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'refnet.demo.fake_scholar', '--papers', '20', '--edges', '40'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline(), end='')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    pid, url = ran.stdout.split()
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/graph/v1")
    end = time.monotonic() + 30
    while "fake_scholar" in _command(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--papers", "0"],
        ["--edges", "-1"],
        ["--port", "99999"],
        ["--faults", "x"],
        ["--seed", "1e3"],
        ["--seed", "\u0663"],
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--papers", "3"] if arguments[0] == "--port" else arguments)
    assert ended.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize(("papers", "edges"), [(1, 0), (1, 9), (2, 5), (3, 3)])
def test_a_tiny_graph_has_no_more_edges_than_it_can(papers: int, edges: int) -> None:
    graph = FakeGraph(papers, edges)
    assert sum(len(graph.cites(number)) for number in range(papers)) <= max(edges, papers - 1)
    assert all(graph.find(one) is not None for one in graph.seed_ids)
