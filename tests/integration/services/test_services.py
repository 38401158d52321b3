"""Services of a recovery: real processes, and `docker compose` calls against a stand-in that checks them."""

from __future__ import annotations

import json
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

from refnet.actions.live import Live
from refnet.actions.recovery_settings import Setup
from refnet.errors import RefnetError
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.clock import Clock
from refnet.recovery.model.services import wait_for
from refnet.recovery.services.compose import Compose
from refnet.recovery.services.local import LocalServices
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


def test_a_local_service_that_ends_at_once_is_an_error_that_says_where_its_log_is(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="'false' ended at once") as error:
        local(tmp_path).start(["false"])
    assert str(tmp_path / "run") in error.value.hint


def test_services_that_do_not_come_up_in_time_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="sleep 9 did not come up within 0 s"):
        wait_for(local(tmp_path), ["sleep 9"], 0.1, CLOCK)


def test_a_local_service_whose_program_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match="no-such-program"):
        local(tmp_path).start(["no-such-program --flag"])


STAND_IN = """#!{python}
import json, pathlib, sys
calls = pathlib.Path({calls!r})
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] != ["compose", "--file"] or sys.argv[4] not in ("up", "ps"):
    sys.exit("unknown docker command")
if sys.argv[4] == "up" and "broken" in sys.argv:
    sys.exit("no such service: broken")
if sys.argv[4] == "ps":
    ups = calls.read_text().count('"ps"')
    health = "healthy" if ups > 1 else "starting"
    print(json.dumps({{"Service": "postgres", "State": "running", "Health": health}}))
    print(json.dumps({{"Service": "redis", "State": "running", "Health": ""}}))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(STAND_IN.format(python=sys.executable, calls=str(tmp_path / "calls")))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    return tmp_path / "calls"


def test_compose_starts_services_and_waits_until_they_are_healthy(calls: Path) -> None:
    services = Compose(Path("/srv/refnet/compose.yaml"))
    services.start(["postgres", "redis"])
    wait_for(services, ["postgres", "redis"], 10, CLOCK)
    project = ["compose", "--file", "/srv/refnet/compose.yaml"]
    ps = [*project, "ps", "--all", "--format", "json", "postgres", "redis"]
    up = [*project, "up", "--detach", "--no-recreate", "postgres", "redis"]
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [up, ps, ps]


def test_what_docker_says_of_a_failure_is_told(calls: Path) -> None:
    with pytest.raises(RefnetError, match="no such service: broken"):
        Compose(Path("/srv/refnet/compose.yaml")).start(["broken"])


def test_docker_without_its_compose_plugin_is_an_error(calls: Path) -> None:
    (calls.parent / "bin" / "docker").write_text(
        "#!/bin/sh\nprintf 'unknown flag: --file\\n\\nRun docker --help for more information\\n' >&2\nexit 125\n"
    )
    with pytest.raises(RefnetError, match="docker has no Compose plugin"):
        Compose(Path("compose.yaml")).start(["postgres"])


def test_docker_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefnetError, match="docker is not on PATH"):
        Compose(Path("compose.yaml")).start(["postgres"])


OLD = """#!/bin/sh
# docker-compose as its first version was: no ps --format.
echo "$@" >> {calls}
case "$*" in
    *--format*) echo "List containers." >&2; exit 1 ;;
    *"ps -q postgres") echo 1234abcd ;;
esac
"""
INSPECT = """#!/bin/sh
case "$*" in
    compose*) echo "docker: 'compose' is not a docker command." >&2; exit 1 ;;
    inspect*) if [ -f {healthy} ]; then h=healthy; else h=starting; : > {healthy}; fi
        echo '{{"Status": "running", "Health": {{"Status": "'$h'"}}}}' ;;
esac
"""


def test_docker_compose_is_used_where_docker_has_no_plugin(calls: Path) -> None:
    """A second kind of docker-compose, Compose 2 without docker, takes the plugin's own words."""
    programs = calls.parent / "bin"
    (programs / "docker").rename(programs / "docker-compose")
    stand_in = (programs / "docker-compose").read_text()
    stand_in = stand_in.replace("sys.argv[1:3]", "['compose', sys.argv[1]]").replace(
        "sys.argv[4]", "sys.argv[3]"
    )
    (programs / "docker-compose").write_text(stand_in)
    services = Compose(Path("/srv/refnet/compose.yaml"))
    services.start(["postgres", "redis"])
    wait_for(services, ["postgres", "redis"], 10, CLOCK)
    assert json.loads(calls.read_text().splitlines()[0])[:3] == ["--file", "/srv/refnet/compose.yaml", "up"]
    with pytest.raises(RefnetError, match="docker-compose up failed: no such service: broken"):
        services.start(["broken"])


def test_the_first_docker_compose_is_asked_by_its_containers(calls: Path) -> None:
    programs, healthy = calls.parent / "bin", calls.parent / "healthy"
    (programs / "docker-compose").write_text(OLD.format(calls=calls))
    (programs / "docker-compose").chmod(0o755)
    (programs / "docker").write_text(INSPECT.format(healthy=healthy))
    services = Compose(Path("/srv/refnet/docker-compose.yml"))
    services.start(["postgres"])
    assert services.waiting(["postgres", "redis"]) == ("postgres", "redis")
    assert services.waiting(["postgres", "redis"]) == ("redis",)


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
        asked = Live(
            Setup(replace(Settings(), recover_health_url=url, recover_seconds=20), "", own=False)
        ).health
        assert asked
        assert asked().outcome is Outcome.PASSED
        server.shutdown()
    closed = Live(Setup(replace(Settings(), recover_health_url=url, recover_seconds=1), "", own=False)).health
    assert closed
    began = time.monotonic()
    found = closed()
    assert found.outcome is Outcome.FAILED
    assert "refused" in found.reason
    assert 1 <= time.monotonic() - began < 10
