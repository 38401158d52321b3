"""Services of a recovery that are local processes, and the health URL."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from refnet.actions.recovery_services import check_health
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.recovery.services import LocalServices, wait_for
from refnet.settings import Settings

SERVICE = f"{sys.executable} -c 'import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)'"


#: Short pauses.
CLOCK = Clock(sleep=lambda _: short_pause())


def short_pause() -> None:
    threading.Event().wait(0.02)


def local(tmp_path: Path) -> LocalServices:
    return LocalServices(tmp_path / "run", lambda: None)


def pid_of(folder: Path) -> int:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for log in folder.glob("*.log"):
            if text := log.read_text().strip():
                return int(text.splitlines()[-1])
        short_pause()
    raise AssertionError("the service never said its process id")


def test_a_local_service_runs_until_it_is_ended_and_is_started_once(tmp_path: Path) -> None:
    services = local(tmp_path)
    assert services.waiting([SERVICE]) == (SERVICE,)
    services.start([SERVICE])
    wait_for(services, [SERVICE], 10, CLOCK)
    pid = pid_of(tmp_path / "run")
    try:
        services.start([SERVICE])
        logs = list((tmp_path / "run").glob("*.log"))
        assert [len(log.read_text().split()) for log in logs] == [1]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert services.waiting([SERVICE]) == (SERVICE,)


def test_a_local_service_that_ends_at_once_is_an_error_with_its_log_path(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="'false' ended at once") as error:
        local(tmp_path).start(["false"])
    assert str(tmp_path / "run") in error.value.hint


def test_services_that_do_not_come_up_in_time_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="sleep 9 did not come up within 0 s: sleep 9 does not run"):
        wait_for(local(tmp_path), ["sleep 9"], 0.1, CLOCK)


def test_an_ended_local_services_last_log_is_shown_without_secrets(tmp_path: Path) -> None:
    script = tmp_path / "dies"
    script.write_text("#!/bin/sh\nsleep 0.7\nprintf 'token is made-up-secret\\n\\033[31mbroken\\n'\n")
    script.chmod(0o755)
    services = replace(local(tmp_path), hide=lambda text: text.replace("made-up-secret", "(hidden)"))
    services.start([str(script)])
    with pytest.raises(RefnetError) as error:
        wait_for(services, [str(script), "sleep 9"], 2, CLOCK)
    assert r"does not run, last log lines: token is (hidden) | \x1b[31mbroken; sleep 9" in error.value.message


def test_a_local_service_without_its_program_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="no-such-program"):
        local(tmp_path).start(["no-such-program --flag"])


class _Late(BaseHTTPRequestHandler):
    """An application that answers 503 twice before it is well."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200 if self.asked > 2 else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_health_url_is_asked_until_it_is_well_or_the_time_is_over() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Late) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/health"
        late = replace(Settings(), recover_health_url=url, recover_seconds=20)
        asked = check_health(Context(late))
        assert asked
        assert asked.outcome is Outcome.PASSED
        server.shutdown()
    closed = replace(Settings(), recover_health_url=url, recover_seconds=1)
    began = time.monotonic()
    found = check_health(Context(closed))
    assert found
    assert found.outcome is Outcome.FAILED
    assert "refused" in found.reason
    assert 1 <= time.monotonic() - began < 10
