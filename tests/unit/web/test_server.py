"""The socket of `refnet serve`."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import uvicorn

from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.web import server
from refnet.web.app import create
from refnet.web.server import CONNECTIONS, Connection, listen, url_of


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:127.0.0.1", "192.0.2.1"])  # noqa: S104
def test_an_address_reachable_by_others_is_refused_without_a_token(host):
    with pytest.raises(RefnetError, match=r"web\.token is not set") as caught:
        listen(host, 0, local=True)
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://"), ("127.9.9.9", "http://127.9.9.9:")],
)
def test_this_machine_is_listened_on(host, url):
    with listen(host, 0, local=True) as listening:
        assert url_of(listening).startswith(url)


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_errors():
    with listen("127.0.0.1", 0, local=True) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(RefnetError, match=rf"cannot serve on 127.0.0.1:{port}: "):
            listen("127.0.0.1", port, local=True)
    for host in ("no.such.host.invalid", "", "x" * 300, "a\u3002."):
        with pytest.raises(RefnetError):
            listen(host, 0, local=True).close()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a server that waits half a second for a request."""
    monkeypatch.setattr(server, "ARRIVAL", 0.5)
    config = uvicorn.Config(create(Settings(home=tmp_path)), http=Connection, ws="none", log_config=None)
    served = uvicorn.Server(config)
    with listen("127.0.0.1", 0, local=True) as listening:
        thread = threading.Thread(target=served.run, args=([listening],))
        thread.start()
        yield listening.getsockname()
        served.should_exit = True
        thread.join()


_HEAD = b"GET /static/refnet.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_FORM = (
    b"POST /preferences HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
)
_CHUNK = b"POST /api/crawls HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.mark.parametrize("sent", [b"", _HEAD, _FORM + b"Content-Length: 9\r\n\r\na", _CHUNK])
def test_a_request_that_does_not_arrive_in_time_ends_its_connection(address: tuple[str, int], sent: bytes):
    assert _is_ended(address, sent)


def test_a_body_that_trickles_after_its_answer_ends_the_connection(address: tuple[str, int]):
    assert _is_ended(address, _HEAD + b"Content-Length: 900\r\n\r\n", trickle=b"a")


def test_each_request_of_a_connection_has_its_own_time(address: tuple[str, int]):
    client = http.client.HTTPConnection(*address, timeout=10)
    client.connect()
    connected = client.sock
    for _ in range(3):  # 0.9 s in all
        client.request("GET", "/static/refnet.svg")
        assert client.getresponse().read()
        time.sleep(0.3)
    assert client.sock is connected
    client.close()


def test_connections_without_a_request_are_limited_for_each_user(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "ARRIVAL", 60)
    attacker = 4242
    monkeypatch.setattr(server, "user_of", lambda _client, _server: attacker)
    with ExitStack() as held:
        opened = [
            held.enter_context(socket.create_connection(address, timeout=10)) for _ in range(CONNECTIONS + 4)
        ]
        _until(lambda: sum(map(_is_closed, opened)) == len(opened) - server.WAITING)
        attacker = 0
        client = http.client.HTTPConnection(*address, timeout=10)
        client.request("GET", "/static/refnet.svg")
        assert client.getresponse().status == 200
        client.close()


def _is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_ended(address: tuple[str, int], sent: bytes, trickle: bytes = b"") -> bool:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(sent)
        client.settimeout(0.1)
        for _ in range(100):
            try:
                if not client.recv(1 << 16):
                    return True
            except TimeoutError:
                with suppress(OSError):
                    client.sendall(trickle)
            except ConnectionError:
                return True
    return False
