"""A proxy before PostgreSQL that damages rows of COPY on their way from the server to its client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

_COPY_DATA = b"d"
_PIECE = 1 << 16


class RowFault(Enum):
    """What happens to a row."""

    LOST = "lost"
    DOUBLED = "doubled"
    #: It and the row before it exchange their last columns.
    SWAPPED = "swapped"
    #: Its last character is another one.
    CHANGED = "changed"
    #: Neither it nor what follows it comes, until the proxy is closed.
    HELD = "held"


class RowProxy:
    """A proxy to a server's socket: of all rows that contain `marker` every `every`th meets `fault`."""

    def __init__(self, folder: Path, upstream: Path, fault: RowFault, marker: bytes, every: int) -> None:
        self._upstream, self._fault, self._marker, self._every = upstream, fault, marker, every
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / upstream.name))
        self._listener.listen(64)
        self.damaged = self._seen = 0
        self._counting = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._upstream))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    @staticmethod
    def _up(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(_PIECE):
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            rest = b""
            while piece := server.recv(_PIECE):
                messages, rest = _cut(rest + piece)
                self._damage(messages)
                client.sendall(b"".join(kind + _packed(body) for kind, body in messages))
            client.shutdown(socket.SHUT_RDWR)  # closing it does not end the other thread's recv

    def _damage(self, messages: list[tuple[bytes, bytes]]) -> None:
        """Damage the rows that are due."""
        rows = [n for n, (kind, body) in enumerate(messages) if kind == _COPY_DATA and self._marker in body]
        with self._counting:
            seen, self._seen = self._seen, self._seen + len(rows)
        for before, at in reversed(list(zip([None, *rows], rows, strict=False))):
            number = seen + rows.index(at) + 1
            if number % self._every == 0:
                self.damaged += 1
                self._strike(messages, before, at)

    def _strike(self, messages: list[tuple[bytes, bytes]], before: int | None, at: int) -> None:
        body = messages[at][1]
        if self._fault is RowFault.LOST:
            del messages[at]
        elif self._fault is RowFault.DOUBLED:
            messages.insert(at, messages[at])
        elif self._fault is RowFault.HELD:
            self._closed.wait()
        elif self._fault is RowFault.CHANGED:
            messages[at] = (_COPY_DATA, body[:-2] + bytes([body[-2] ^ 1]) + body[-1:])
        elif before is not None:
            (one, tab, last), (other, _, others) = (
                messages[before][1].rpartition(b"\t"),
                body.rpartition(b"\t"),
            )
            messages[before], messages[at] = (
                (_COPY_DATA, one + tab + others),
                (_COPY_DATA, other + tab + last),
            )


def _cut(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the complete messages in `data`, and what follows them."""
    found, at = [], 0
    while len(data) - at >= 5:
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if end > len(data):
            break
        found.append((data[at : at + 1], data[at + 5 : end]))
        at = end
    return found, data[at:]


def _packed(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4, "big") + body


@contextmanager
def row_proxy(folder: Path, upstream: Path, fault: RowFault, marker: bytes, every: int) -> Iterator[RowProxy]:
    """A proxy, with its socket in `folder`, while the block runs."""
    proxy = RowProxy(folder, upstream, fault, marker, every)
    try:
        yield proxy
    finally:
        proxy.close()
