"""`refnet serve` as a process, and requests to it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running `refnet serve`."""

    process: subprocess.Popen[str]
    port: int

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        host: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request; an underscore in the name of a header is a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": host or f"127.0.0.1:{self.port}", **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            said = connection.getresponse()
            return Answer(said.status, {k.lower(): v for k, v in said.getheaders()}, said.read())
        finally:
            connection.close()

    def list(self, **asked: object) -> Answer:
        return self.ask(f"/api/papers?{urlencode(asked)}")


@contextmanager
def serving(environment: dict[str, str], *arguments: str, folder: Path | None = None) -> Iterator[Served]:
    """`refnet serve` on a free port, in `folder` (REFNET_HOME); at the end it is stopped, and stderr must be empty."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refnet", "serve", "--port", "0", *arguments],
        env=environment,
        cwd=folder or environment["REFNET_HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        first = process.stdout.readline()
        assert first.startswith("serving http://"), (process.kill(), process.communicate())
        yield Served(process, int(first.split("/")[2].rstrip(",").rpartition(":")[2]))
    finally:
        process.terminate()
        _, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (0, "")
