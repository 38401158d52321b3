"""An HTTP server that answers bytes as they are written in a test, whatever is asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

#: An answer after which the server sends nothing, and keeps the connection open.
STALL = b""


def answer(
    body: bytes | str | object = b"",
    *,
    status: str = "200 OK",
    kind: str = "application/json",
    length: int | None = None,
    **headers: str,
) -> bytes:
    """An answer; `body` that is not bytes or text is sent as JSON. `length`: what it claims to have."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = {
        "Content-Type": kind,
        "Content-Length": str(len(data) if length is None else length),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data


class Scripted:
    """The server: its URL, and the heads of the requests so far."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = [*answers]
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heads: list[str] = []

    def close(self) -> None:
        self._ending.set()
        with suppress(OSError):
            socket.create_connection(self._socket.getsockname(), 1).close()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            connection, _ = self._socket.accept()
            with connection, suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        """Give the next answer, one a connection; the last one again and again."""
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                return
            received += part
        self.heads.append(received.partition(b"\r\n\r\n")[0].decode())
        data = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if data is STALL:
            self._ending.wait(30)
            return
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    server = Scripted(answers)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def dripping(head: bytes, part: bytes) -> Iterator[str]:
    """A server that sends `head` to its first client, and then `part` ten times a second, without an end; its URL."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(head)
                while not ending.wait(0.1):
                    connection.sendall(part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ending.set()
        thread.join()
