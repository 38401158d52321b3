"""The server of `refnet metrics --serve`: whom it answers, and how many at once."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from refnet.telemetry import serve
from refnet.telemetry.serve import REQUESTS, MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer(("127.0.0.1", 0), {"/metrics": lambda _accept: (b"up 1\n", "text/plain")}) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: MetricsServer, host: str) -> int:
    client = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    client.putrequest("GET", "/metrics", skip_host=True)
    client.putheader("Host", host)
    client.endheaders()
    status = client.getresponse().status
    client.close()
    return status


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9817", "localhost", "[::1]:9817", "10.0.0.7", "api:8000", socket.gethostname()]
)
def test_a_program_that_names_this_machine_is_answered(server: MetricsServer, host: str) -> None:
    assert ask(server, host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:9817", "[::1", "", "evil.example:x"]
)
def test_a_name_that_a_page_of_another_site_made_up_is_refused(server: MetricsServer, host: str) -> None:
    assert ask(server, host) == 421


def test_only_so_many_requests_are_at_work_and_one_that_is_slow_ends(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SECONDS", 1.0)
    with ExitStack() as held:
        slow = [
            held.enter_context(socket.create_connection(server.server_address[:2], timeout=10))
            for _ in range(REQUESTS)
        ]
        for one in slow:
            one.sendall(b"GET /metrics HTTP/1.1\r\n")
        with socket.create_connection(server.server_address[:2], timeout=10) as late:
            assert late.recv(1) == b"", "it is closed at once"
        for one in slow:
            assert one.recv(1) == b"", "it is closed after a second"
    assert ask(server, "localhost") == 200


def test_requests_whose_thread_could_not_start_do_not_count_forever(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Timer, "start", _no_thread)
        for _ in range(REQUESTS):
            with socket.create_connection(server.server_address[:2], timeout=10) as refused:
                assert refused.recv(1) == b""
    assert ask(server, "localhost") == 200


def _no_thread(_timer: threading.Timer) -> None:
    raise RuntimeError("can't start new thread")


def test_a_client_that_hangs_up_leaves_no_traceback(
    server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, hung_up = threading.Event(), threading.Event()

    def large(_accept: str) -> tuple[bytes, str]:
        asked.set()
        assert hung_up.wait(10)
        return b"x" * 50_000_000, "text/plain"

    server.answers["/large"] = large
    with socket.create_connection(server.server_address[:2], timeout=10) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /large HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert asked.wait(10)
    hung_up.set()
    assert ask(server, "localhost") == 200
    server.shutdown()
    server.server_close()
    assert capfd.readouterr().err == ""
