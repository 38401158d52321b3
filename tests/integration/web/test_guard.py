"""Who is answered: the token, this machine alone without one, no page of another site, no endless request."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from tests.integration.web.conftest import TOKEN
from tests.serving import Served


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"]
)
def test_with_a_token_a_request_without_it_learns_nothing(guarded: Served, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    for path in ("/api/papers", "/api/papers/1", "/api/backups", "/metrics", "/nothing"):
        said = guarded.ask(path, **headers)
        assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN.encode() not in said.body


def test_with_the_token_everything_answers_under_any_name(guarded: Served) -> None:
    said = guarded.ask("/api/papers/1", host="refnet.example", Authorization=f"bearer {TOKEN}")
    assert said.status == 200


def test_the_state_needs_no_token_and_gives_reasons_only_with_it(guarded: Served) -> None:
    assert guarded.ask("/health").json["checks"]["disk"] == {"state": "ok"}
    assert "free" in guarded.ask("/health", Authorization=f"Bearer {TOKEN}").json["checks"]["disk"]["reason"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::1", "", "10.0.0.1:80"])
def test_without_a_token_a_name_of_another_machine_is_refused(served: Served, host: str) -> None:
    assert served.ask("/api/papers", host=host or " ").status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000", "127.1.2.3"])
def test_without_a_token_this_machine_is_answered(served: Served, host: str) -> None:
    assert served.ask("/api/papers?limit=1", host=host).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "http://localhost:1"])
def test_a_page_of_another_site_changes_nothing(served: Served, origin: str) -> None:
    said = served.ask("/api/papers", "POST", b"{}", Origin=origin, Content_Type="application/json")
    assert said.status == 403


def test_every_answer_tells_browsers_to_run_and_keep_nothing(served: Served) -> None:
    for path in ("/docs", "/health", "/api/papers", "/nothing", "/api/papers?limit=x"):
        headers = served.ask(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_the_documentation_needs_no_other_host(served: Served) -> None:
    page, api = served.ask("/docs").body.decode(), served.ask("/openapi.json").json
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http://").partition("<body>")[2]
    for path in api["paths"]:
        assert path in page


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_what_reads_cannot_be_written(served: Served, method: str) -> None:
    said = served.ask("/api/papers/1", method)
    assert (said.status, list(said.json)) == (405, ["error", "hint"])


@pytest.mark.parametrize("sent", [
    b"GET /api/papers HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)),
    b"GET /" + b"x" * 100_000, b"\x00\xff" * 1000 + b"\r\n\r\n", b"GET /api/papers HTTP/9.9\r\n\r\n",
], ids=["headers", "path", "bytes", "version"])  # fmt: skip
def test_a_flood_is_refused_and_others_are_answered(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        try:
            connection.sendall(sent)
            said = connection.recv(1 << 16)
        except ConnectionError:
            said = b""
    assert said == b"" or said.startswith(b"HTTP/1.1 40")
    assert served.ask("/api/papers?limit=1").status == 200


def test_without_a_token_another_address_than_loopback_is_refused(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refnet", "serve", "--host", "0.0.0.0"],  # noqa: S104
        env=environment, cwd=environment["REFNET_HOME"], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "refnet: 0.0.0.0: other machines could reach it, and web.token is not set",
        "        Set web.token (16 characters or more), or serve on 127.0.0.1.",
    ]
