"""A fake Semantic Scholar on a loopback port, with a made-up graph: for tests, benchmarks and the demo.

It answers like the Graph API (/graph/v1) and, for the same papers, like OpenAlex (/openalex). It listens only on
127.0.0.1 and ends with the process that started it.

    python -m refnet.demo.fake_scholar --papers 5000 --edges 50000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from refnet.demo.fake_answers import FakeAnswer, OpenAlexAnswers, ScholarAnswers, endpoint
from refnet.demo.fake_faults import FaultRule, Faults
from refnet.demo.fake_graph import FakeGraph

_HOST = "127.0.0.1"
_SCHOLAR, _OPENALEX = "/graph/v1/paper/", "/openalex/"
_PAGE = "<!doctype html>\n<title>Just a moment...</title>\n<p>Checking your browser.\n"
_TEXTS = {
    "403": "Forbidden",
    "429": "Too Many Requests. Please apply for a key for higher rate limits.",
    "504": "Endpoint request timed out",
}


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request that has arrived."""

    method: str
    path: str
    query: dict[str, str]


@dataclass(frozen=True)
class Running:
    """A running fake server: its addresses and the requests so far."""

    #: The base addresses: http://127.0.0.1:PORT/graph/v1, and /openalex.
    url: str
    openalex_url: str
    #: All requests, in the order of arrival.
    requests: list[FakeRequest] = field(default_factory=list)
    #: Number of requests by kind: batch, references, citations, paper, work, works.
    counts: Counter[str] = field(default_factory=Counter)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, graph: FakeGraph, faults: Faults, port: int, parent: int | None = None) -> None:
        super().__init__((_HOST, port), _Handler)
        self.scholar, self.works, self.faults = ScholarAnswers(graph, faults), OpenAlexAnswers(graph), faults
        base = f"http://{_HOST}:{self.server_port}"
        self.running, self._parent = Running(f"{base}/graph/v1", f"{base}/openalex"), parent
        self.ended, self._lock = threading.Event(), threading.Lock()

    def arrive(self, request: FakeRequest, kind: str) -> tuple[int, int]:
        """Record a request; return its number among all requests, and among those of its kind."""
        with self._lock:
            self.running.requests.append(request)
            self.running.counts[kind] += 1
            return len(self.running.requests), self.running.counts[kind]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of a request, unless its client has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> FakeAnswer:
        """Return the answer to a request, without faults."""
        if path.startswith(_SCHOLAR):
            return self.scholar.answer(method, path.removeprefix(_SCHOLAR), query, body)
        if path.startswith(_OPENALEX) and method == "GET":
            return self.works.answer(path.removeprefix(_OPENALEX), query)
        return FakeAnswer(404, {"error": "Not found"})

    def service_actions(self) -> None:
        if self._parent and os.getppid() != self._parent:  # the parent process has ended
            raise SystemExit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        self._handle(self.rfile.read(int(length) if length.isascii() and length.isdigit() else 0))

    def _handle(self, body: bytes) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), dict(parse_qsl(address.query, keep_blank_values=True))
        kind = endpoint(path)
        number, of_kind = self.server.arrive(FakeRequest(self.command, path, query), kind)
        answer = self.server.answer(self.command, path, query, body)
        fault = self.server.faults.of_request(kind, number, of_kind)
        if fault is None:
            self._send(answer)
        else:
            self._fail(fault, answer)

    def _fail(self, fault: FaultRule, answer: FakeAnswer) -> None:
        """Answer with a fault instead of `answer`."""
        if fault.kind == "stall":
            self.server.ended.wait(fault.value or 60)
        if fault.kind in {"stall", "closed"}:
            self.close_connection = True
        elif fault.kind == "html":
            self._send(FakeAnswer(200, _PAGE))
        elif fault.kind == "truncated":
            self._send(answer, cut=True)
        else:
            headers = {} if fault.value is None else {"Retry-After": str(fault.value)}
            self._send(
                FakeAnswer(int(fault.kind), {"message": _TEXTS.get(fault.kind, "Internal error")}, headers)
            )

    def _send(self, answer: FakeAnswer, *, cut: bool = False) -> None:
        """Send an answer; cut: only the first half of the body, with a matching Content-Length."""
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body) + "\n"
        body = text.encode()
        body = body[: len(body) // 2] if cut else body
        self.send_response_only(answer.status)
        kind = "text/html; charset=utf-8" if isinstance(answer.body, str) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Say nothing."""


@contextmanager
def running(graph: FakeGraph, faults: Faults | None = None, port: int = 0) -> Iterator[Running]:
    """Serve `graph` on a loopback port (0: any) until the end of the block."""
    server = _Server(graph, faults or Faults(), port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.running
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted, or until the parent process has ended; the first line printed is the address."""
    parser = argparse.ArgumentParser(prog="refnet.demo.fake_scholar", description=__doc__)
    parser.add_argument("--papers", type=_from(1), default=5000)
    parser.add_argument("--edges", type=_from(0), default=50_000)
    parser.add_argument("--seed", type=_from(0), default=1)
    parser.add_argument("--port", type=_from(0), default=0, help="0: any")
    parser.add_argument(
        "--faults", type=Faults.read, default=Faults(), metavar="SPEC", help="see fake_faults.py"
    )
    chosen = parser.parse_args(arguments)
    graph = FakeGraph(chosen.papers, chosen.edges, chosen.seed)
    try:
        server = _Server(graph, chosen.faults, chosen.port, os.getppid())
    except (OSError, OverflowError) as error:
        parser.error(f"port {chosen.port} is not available: {error}")
    print(server.running.url, flush=True)  # noqa: T201  # the answer of this command
    for identifier in graph.seed_ids:
        print(identifier, flush=True)  # noqa: T201
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def _from(least: int) -> Callable[[str], int]:
    """Return an argparse type for integers of at least `least`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) >= least):
            raise argparse.ArgumentTypeError(f"not a number from {least} on: {text}")
        return int(text)

    return number


if __name__ == "__main__":
    main()
