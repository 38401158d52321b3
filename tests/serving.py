"""`refnet serve` as a process, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import urlencode

from tests import forked


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

    process: forked.Started
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
    printed, out = os.pipe()
    with (
        Path(os.devnull).open() as nothing,
        TemporaryFile("w+") as wrong,
        os.fdopen(printed, "r") as said,
    ):
        process = forked.start(
            ["serve", "--port", "0", *arguments],
            environment,
            folder or Path(environment["REFNET_HOME"]),
            (nothing.fileno(), out, wrong.fileno()),
            "refnet.web.server",
        )
        os.close(out)
        try:
            first = said.readline()
            assert first.startswith("serving http://"), (process.kill(), _text(wrong))
            yield Served(process, int(first.split("/")[2].rstrip(",").rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(60)
        assert (process.returncode, _text(wrong)) == (0, "")


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
