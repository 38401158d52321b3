"""`/metrics` and `/health` over HTTP, for Prometheus and for health checks."""

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from refnet.core.errors import Exit, RefnetError

#: The most concurrent requests, and the time limit of each in seconds.
REQUESTS, SECONDS = 16, 60.0
#: Called with the Accept header; returns the body and its content type, or raises RefnetError.
Answer = Callable[[str], tuple[bytes, str]]

_TEXT = "text/plain; charset=utf-8"


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`, an IPv6 host in brackets; RefnetError if it is invalid."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not (colon and host and port.isdecimal() and len(port) <= 5 and int(port) <= 65535) or (
        ":" in host and "[" not in text
    ):
        raise RefnetError(
            f"'{text}' is not a valid address to serve on",
            "Give HOST:PORT, such as 127.0.0.1:9817 or [::1]:9817.",
            Exit.USAGE,
        )
    return host, int(port)


class MetricsServer(ThreadingHTTPServer):
    """Serves `answers` (path → Answer) on `address`, one at a time, as they share cached facts."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.one_at_a_time = threading.Lock()
        self._free = threading.BoundedSemaphore(REQUESTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, _Handler)
        except (OSError, UnicodeError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise RefnetError(
                f"cannot serve on {address[0]}:{address[1]}: {said}",
                "Choose an address of this machine and a free port.",
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread; close the connection if `REQUESTS` requests are running or no thread starts."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self._refuse(request)

    def _refuse(self, request: Any) -> None:
        self._free.release()
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = threading.Timer(SECONDS, _end, [request])
        late.daemon = True
        try:
            late.start()
        except RuntimeError:
            self._refuse(request)
            return
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault of an answer, but not a client that hung up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}"


def _end(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _is_own_name(header: str) -> bool:
    """Return whether Host names this machine: an address, its name, or a name without a dot.

    A page of another site can reach this server through a browser only under that site's name (DNS rebinding).
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        return bool(ip_address(name))
    return bool(name) and (
        "." not in name or name in {socket.gethostname().lower(), socket.getfqdn().lower()}
    )


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version = "refnet"
    sys_version = ""
    #: Timeout of an idle client, in seconds.
    timeout = 10

    def do_GET(self) -> None:
        if not _is_own_name(self.headers.get("Host", "localhost")):
            self._send(
                HTTPStatus.MISDIRECTED_REQUEST, b"ask by the address or the name of this machine\n", _TEXT
            )
            return
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, b"the paths are /metrics and /health\n", _TEXT)
            return
        try:
            with self.server.one_at_a_time:
                body, kind = answer(self.headers.get("Accept", ""))
        except RefnetError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error.message}\n{error.hint}\n".encode(), _TEXT)
        else:
            self._send(HTTPStatus.OK, body, kind)

    do_HEAD = do_GET  # noqa: N815  # the name is http.server's

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
        """Log nothing: a scrape comes every few seconds."""
