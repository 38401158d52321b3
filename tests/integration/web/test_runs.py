"""A server that stops does not wait for the browsers that watch a run, and the run goes on."""

from __future__ import annotations

import fcntl
import http.client
import json
import time
from pathlib import Path

from tests.serving import serving
from tests.unit.web.test_children import GOOD, NAME


def test_the_stop_of_a_server_ends_a_stream_at_once(environment: dict[str, str]) -> None:
    folder = Path(environment["REFNET_HOME"], "web")
    folder.mkdir(mode=0o700)
    (folder / f"{NAME}.json").write_text(json.dumps(GOOD))
    with (folder / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the child does for as long as it lives
        with serving(environment) as served:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
            connection.request("GET", f"/runs/{NAME}/events")
            answer = connection.getresponse()
            assert answer.readline().startswith(b"data:")
            began = time.monotonic()
            served.process.terminate()
            answer.read()
            served.process.wait(60)
            assert time.monotonic() - began < 5
            connection.close()
