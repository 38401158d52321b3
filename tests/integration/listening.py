"""A service that listens to pings and messages, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Service:
    """What listens: the paths that were asked for, the bodies that came, and how it answers."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    status: int = 200
    silent: threading.Event = field(default_factory=threading.Event)
    answered: int = 0

    @property
    def titles(self) -> list[str]:
        """What the messages that came are called, the machine left out."""
        return [json.loads(body)["title"].partition(": ")[2] for body in self.bodies if body]


@contextmanager
def listening() -> Iterator[Service]:
    """A service on a free port of this machine. While its `silent` is not set, it answers nobody."""
    found = Service()
    found.silent.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            found.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            found.silent.wait(20)
            found.answered += 1
            self.send_response(found.status)
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # http.server calls it so

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        found.silent.set()
        server.shutdown()
