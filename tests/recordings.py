"""Answers that Semantic Scholar once gave, replayed by a server on a loopback port.

The recordings are beside the repository, on machines that have them. What was not recorded is unknown: null, or 404.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

_PAGE = re.compile(r"/graph/v1/paper/(?P<id>.+)/(?P<kind>references|citations)")
Page = tuple[str, int]


@dataclass
class Recordings:
    """What was recorded, by the ids of papers in lower case."""

    papers: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The id of a paper and the kind → offset → page.
    pages: dict[Page, dict[int, Any]] = field(default_factory=dict)  # type: ignore[assignment]
    requests: list[str] = field(default_factory=list)

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        address = urlsplit(target)
        path = unquote(address.path)
        self.requests.append(f"{method} {path}")
        if method == "POST":
            return 200, [self.papers.get(_key(one)) for one in json.loads(body)["ids"]]
        found = _PAGE.fullmatch(path)
        paper = self.papers.get(_key(found["id"])) if found else None
        pages = self.pages.get((paper["paperId"], found["kind"])) if found and paper else None  # type: ignore[call-overload]
        if pages is None:
            return 404, {"error": f"{path} was not recorded"}
        return 200, pages[int(parse_qs(address.query)["offset"][0])]


def read(recorded: Path) -> Recordings:
    """Read the recordings of `recorded`."""
    found = Recordings()
    _keep(found, json.loads((recorded / "Paper.json").read_text()))
    exchanges = [one for name in sorted(recorded.glob("test_get_*.yaml")) for one in _exchanges(name)]
    for path, answer in exchanges:
        if path.endswith("/batch"):
            for paper in filter(None, answer):
                _keep(found, paper)
    for path, answer in exchanges:
        if page := _PAGE.fullmatch(path):
            known = found.papers.setdefault(_key(page["id"]), {"paperId": _unrecorded(page["id"])})
            found.papers.setdefault(known["paperId"], known)
            found.pages.setdefault((known["paperId"], page["kind"]), {})[answer["offset"]] = answer  # type: ignore[arg-type]
    return found


@contextmanager
def replayed(recordings: Recordings) -> Iterator[str]:
    """Serve them; yields the URL up to /graph/v1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            status, values = recordings.answer(self.command, self.path, body)
            data = json.dumps(values).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/graph/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _exchanges(file: Path) -> Iterator[tuple[str, Any]]:
    for one in yaml.safe_load(file.read_text())["interactions"]:
        response = one["response"]
        text = response["body"]["string"] if "body" in response else response["content"]
        yield unquote(urlsplit(one["request"]["uri"]).path), json.loads(text)


def _keep(found: Recordings, paper: dict[str, Any]) -> None:
    """Keep what an answer says of a paper under each of its ids; the more complete answer stays."""
    ids = paper.get("externalIds") or {}
    names = [paper["paperId"], *(f"{scheme}:{value}" for scheme, value in ids.items())]
    if len(paper) > len(found.papers.get(_key(paper["paperId"]), {})):
        for name in names:
            found.papers[_key(name)] = paper
    for kind, end in (("references", "citedPaper"), ("citations", "citingPaper")):
        if listed := paper.get(kind):
            page = {"offset": 0, "data": [{end: one} for one in listed]}
            found.pages[paper["paperId"], kind] = {0: page}  # type: ignore[index]


def _key(name: str) -> str:
    name = name.lower()
    return f"doi:{name}" if name.startswith("10.") else name


def _unrecorded(name: str) -> str:
    """A paperId for a paper whose own was not recorded."""
    return name.encode().hex().ljust(40, "0")[:40]
