"""`deploy/nginx`: a real nginx with these files before a server that repeats what it was asked."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = pytest.mark.skipif(not os.access(NGINX, os.X_OK), reason="nginx is not installed")


class _Echo(BaseHTTPRequestHandler):
    """Repeats a request; on /runs/x/events it sends a line, and the next one only when the first has arrived."""

    arrived = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/own":
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", "default-src 'none'")
        self.end_headers()
        if self.path == "/runs/x/events":
            self.wfile.write(b"data: 1\n\n")
            self.arrived.wait(20)
        self.wfile.write(json.dumps({"path": self.path, **self.headers}).encode())

    do_POST = do_GET  # noqa: N815  # the name of the base class

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Proxy:
    """A running nginx."""

    http: int
    https: int

    def url(self, path: str, *, tls: bool = False) -> str:
        return f"https://localhost:{self.https}{path}" if tls else f"http://localhost:{self.http}{path}"

    def ask(self, path: str, method: str = "GET", *, tls: bool = False, cookie: str = "") -> httpx.Response:
        """Ask for `path`; the certificate was made for this test, so nobody trusts it."""
        headers = {"Cookie": cookie} if cookie else {}
        return httpx.request(method, self.url(path, tls=tls), headers=headers, verify=False, timeout=20)  # noqa: S501


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def running(folder: Path, mode: str, api: int) -> Iterator[Proxy]:
    """Run nginx with the files of the stack, other paths, and the server at the port `api` in the place of all others."""
    proxy = Proxy(free_port(), free_port())
    changed = {
        "/etc/refnet/": f"{folder}/nginx/",
        "/etc/certs/": f"{folder}/",
        "/tmp/": f"{folder}/",
        "8080": f"127.0.0.1:{proxy.http}",
        "8443": f"127.0.0.1:{proxy.https}",
        **dict.fromkeys(
            ("http://api:8000", "http://flower:5555", "http://grafana:3000"), f"http://127.0.0.1:{api}"
        ),
    }
    shutil.copytree(ROOT / "deploy/nginx", folder / "nginx")
    for path in (folder / "nginx").iterdir():
        text = path.read_text()
        for old, new in changed.items():
            text = text.replace(old, new)
        path.write_text(text)
    (folder / "resolver.conf").write_text("resolver 127.0.0.11 valid=10s;\n")
    made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", "/CN=localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *kind, *made], check=True, capture_output=True)
    command = [NGINX, "-e", "stderr", "-c", folder / "nginx" / f"{mode}.conf"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr.replace('the "user" directive', "")
    with subprocess.Popen([*command, "-g", "daemon off;"], stdout=subprocess.DEVNULL) as process:
        try:
            until_it_listens(proxy.http)
            yield proxy
        finally:
            process.terminate()


def until_it_listens(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, "nginx does not listen"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def api() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def plain(api: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("http"), "http", api) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def encrypted(api: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("https"), "https", api) as proxy:
        yield proxy


def test_it_answers_its_own_health_check_and_passes_on_that_of_refnet(plain: Proxy) -> None:
    assert plain.ask("/nginx-health").status_code == 204
    assert plain.ask("/health").json()["path"] == "/health"


def test_refnet_learns_the_name_and_the_protocol_of_the_request(plain: Proxy, encrypted: Proxy) -> None:
    asked = plain.ask("/papers?x=1").json()
    assert (asked["path"], asked["Host"]) == ("/papers?x=1", f"localhost:{plain.http}")
    assert asked["X-Forwarded-Proto"] == "http"
    assert encrypted.ask("/", tls=True).json()["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize("path", ["/flower/tasks", "/grafana/api/health"])
def test_the_other_services_get_their_paths_as_they_are(plain: Proxy, path: str) -> None:
    assert plain.ask(path).json()["path"] == path


@pytest.mark.parametrize("cookie", ["{own}; {other}", "{other}; {own}; x=1", "{other}; {other}", "a{other}"])
def test_no_other_service_gets_the_session_of_the_dashboard(plain: Proxy, cookie: str) -> None:
    sent = cookie.format(own="refnet_session=secret", other="grafana_session=of-grafana")
    assert plain.ask("/", cookie=sent).json()["Cookie"] == sent
    assert "Cookie" not in plain.ask("/flower/tasks", cookie=sent).json()
    passed = plain.ask("//grafana/%61pi", cookie=sent).json().get("Cookie")
    assert passed == (None if sent.startswith("a") else "grafana_session=of-grafana")


def test_headers_for_browsers_are_sent_once(plain: Proxy) -> None:
    bare, own = plain.ask("/flower/"), plain.ask("/own")
    for answer in (bare, own):
        assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.get("Strict-Transport-Security") is None
        assert answer.headers.get("Server") == "nginx"
    assert bare.headers.get("X-Frame-Options") == "SAMEORIGIN"
    assert own.headers.get("X-Frame-Options") is None, "its policy says it"


def test_with_a_certificate_everything_but_health_is_sent_to_tls(encrypted: Proxy) -> None:
    moved = encrypted.ask("/papers?x=1")
    assert (moved.status_code, moved.headers["Location"]) == (308, "https://localhost/papers?x=1")
    assert encrypted.ask("/health").status_code == 200
    assert encrypted.ask("/", tls=True).headers.get("Strict-Transport-Security") == "max-age=31536000"


def test_refnet_learns_the_clients_real_address_and_not_the_claimed_one(plain: Proxy) -> None:
    said = httpx.get(plain.url("/"), headers={"X-Forwarded-For": "198.51.100.7, 10.0.0.1"}, timeout=20)
    assert said.json()["X-Forwarded-For"] == "127.0.0.1"


def test_progress_arrives_at_once(plain: Proxy) -> None:
    _Echo.arrived.clear()
    with httpx.stream("GET", plain.url("/runs/x/events"), timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 1"
        _Echo.arrived.set()
        assert "/runs/x/events" in list(lines)[-1]


def test_a_service_that_is_not_there_keeps_nginx_from_nothing(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "http", free_port()) as proxy:
        assert proxy.ask("/").status_code == 502
        assert proxy.ask("/nginx-health").status_code == 204
