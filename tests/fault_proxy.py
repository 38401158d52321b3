"""A proxy before a server of HTTP that does to requests what networks and servers do."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

_HOST = "127.0.0.1"
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>Not now%s</Message></Error>"


class Fault(Enum):
    """What happens to a request."""

    #: 503, and the server does not see it.
    UNAVAILABLE = "unavailable"
    #: 403, and the server does not see it.
    REFUSED = "refused"
    #: The connection is reset before the server sees it.
    RESET = "reset"
    #: Nothing happens any more.
    STALL = "stall"
    #: The server does it, and its answer is lost.
    LOST = "lost"
    #: An error in an answer with status 200; the server does not see the request.
    ERROR_BODY = "error body"
    #: A bit of what is sent is flipped.
    FLIP_UP = "flip up"
    #: A bit of what is received is flipped.
    FLIP_DOWN = "flip down"
    #: The connection is reset in the middle of the answer.
    CUT = "cut"


class FaultProxy:
    """A proxy to a port of this machine.

    `secure`: clients use TLS. `faults`: what happens to the next requests of each method, None: nothing; then nothing does. `seen`: the requests by method,
    `targets`: their methods and targets.
    """

    def __init__(self, upstream: int, secure: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream
        self._secure = secure
        self._listener = socket.create_server((_HOST, 0))
        self._ended = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.faults: dict[str, deque[Fault | None]] = {}
        self._of: dict[str, tuple[str, ...]] = {}
        self.seen: Counter[str] = Counter()
        self.targets: list[tuple[str, str]] = []
        #: Bytes per second that are sent on; 0: no limit.
        self.speed = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def plan(self, method: str, *faults: Fault | None, of: tuple[str, ...] = ("",)) -> None:
        """Let `faults` happen to the next requests of `method` whose target contains one of `of`."""
        self.faults[method], self._of[method] = deque(faults), of

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                client, _ = self._listener.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14 if self.speed else 1 << 20)
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with suppress(OSError), self._secure.wrap_socket(client, True) if self._secure else client as secured:
            client = secured
            head, body = _head(client)
            if not head:
                return
            method, target, _ = head.decode("latin-1").split(" ", 2)
            self.seen[method] += 1
            self.targets.append((method, target))
            meant = any(one in target for one in self._of.get(method, ()))
            waiting = self.faults.get(method) if meant else None
            fault = waiting.popleft() if waiting else None
            if fault is Fault.RESET:
                _reset(client)
            elif fault is Fault.STALL:
                self._ended.wait(60)
            else:
                self._answer(client, head, self._body(client, head, body), fault)

    def _body(self, client: socket.socket, head: bytes, body: bytes) -> bytes:
        length, found = _length(head), bytearray(body)
        while len(found) < length and (piece := client.recv(1 << 14 if self.speed else 1 << 20)):
            found += piece
            if self.speed:
                time.sleep(len(piece) / self.speed)
        return bytes(found)

    def _answer(self, client: socket.socket, head: bytes, body: bytes, fault: Fault | None) -> None:
        if fault is Fault.UNAVAILABLE:
            client.sendall(_made(b"503 Service Unavailable", _ERROR % (b"SlowDown", b"\x1b[31m\n" * 100)))
        elif fault is Fault.REFUSED:
            client.sendall(_made(b"403 Forbidden", _ERROR % (b"AccessDenied", b"")))
        elif fault is Fault.ERROR_BODY:
            client.sendall(_made(b"200 OK", _ERROR % (b"InternalError", b"")))
        else:
            answer = self._forwarded(head, _flipped(body) if fault is Fault.FLIP_UP else body)
            if fault in {Fault.LOST, Fault.CUT}:
                client.sendall(answer[: len(answer) - 10 if fault is Fault.CUT else 0])
                time.sleep(0.01)  # the reset would overtake it
                _reset(client)
            client.sendall(_flipped(answer) if fault is Fault.FLIP_DOWN else answer)

    def _forwarded(self, head: bytes, body: bytes) -> bytes:
        head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        answer = bytearray()
        with socket.create_connection((_HOST, self._upstream)) as server:
            server.sendall(head + body)
            while piece := server.recv(1 << 16):
                answer += piece
        return bytes(answer)


@contextmanager
def fault_proxy(upstream: int, secure: ssl.SSLContext | None = None) -> Iterator[FaultProxy]:
    """A proxy to the port `upstream` while the block runs."""
    proxy = FaultProxy(upstream, secure)
    try:
        yield proxy
    finally:
        proxy.close()


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    found = b""
    while b"\r\n\r\n" not in found:
        if not (piece := client.recv(1 << 14)):
            return b"", b""
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)


def _made(status: bytes, body: bytes) -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(lines)


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
