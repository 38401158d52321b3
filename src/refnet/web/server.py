"""The HTTP server: its socket, its limits, its graceful stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.web.app import create
from refnet.web.guard import is_loopback
from refnet.web.peers import user_of

#: Limits: connections; bytes of a request's head; seconds of an idle connection, of running requests at the stop, of
#: the arrival of a request, of a stalled answer.
CONNECTIONS, HEAD, IDLE, STOP, ARRIVAL, TAKING = 256, 16 << 10, 15, 10, 30, 120
#: The most connections without a complete request, per local user or address.
WAITING = 32


def listen(host: str, port: int, *, local: bool) -> socket.socket:
    """Return a socket that listens on the first address of `host`; RefnetError if that is impossible.

    Args:
        port: 0: any free port.
        local: refuse addresses that are reachable from other machines.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from None
    if local and not is_loopback(str(address[0])):
        raise RefnetError(
            f"{host}: other machines could reach it, and web.token is not set",
            "Set web.token (16 characters or more), or serve on 127.0.0.1.",
            Exit.USAGE,
        )
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKING * 1000
        )  # inherited by its connections
        listening.bind(address)
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise _unusable(host, port, error) from None
    return listening


def _unusable(host: str, port: int, error: Exception) -> RefnetError:
    said = getattr(error, "strerror", None) or str(error)
    return RefnetError(
        f"cannot serve on {host}:{port}: {said}",
        "Choose an address of this machine and a free port: --host, --port.",
    )


def url_of(listening: socket.socket) -> str:
    """Return the URL of the server on a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(settings: Settings, listening: socket.socket, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; then finish running requests for at most `STOP` seconds.

    started: called when the server is ready.
    """
    _Server(
        uvicorn.Config(
            create(settings, user_of),
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=HEAD,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=STOP,
        ),
        started,
    ).run([listening])


def _peer(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> object:
    """Return the peer of a connection: the user id of a local user, else the address."""
    if client and server and server[1] and is_loopback(client[0]):
        return user_of(client, (server[0], server[1]))
    return client[0] if client else None


class Connection(H11Protocol):
    """A connection that is closed if no request arrives in time, or if one client has too many such connections.

    Otherwise 256 slow connections would block all other clients.
    """

    _timer: asyncio.TimerHandle | None = None

    #: The local user id, or the address, of the peer.
    peer: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in H11Protocol
        super().connection_made(transport)
        self.peer = _peer(self.client, self.server)
        waiting = sum(
            one.peer == self.peer and one.is_due for one in self.connections if isinstance(one, Connection)
        )
        if waiting > WAITING:
            transport.abort()
        else:
            self._watch()

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    @property
    def is_due(self) -> bool:
        """Whether the client has not yet sent a complete request."""
        return self.conn.their_state in {h11.IDLE, h11.SEND_BODY}

    def _watch(self) -> None:
        """Limit the time from the connect or the last answer to the end of the next request."""
        if self.is_due and not self._timer:
            self._timer = self.loop.call_later(ARRIVAL, self.transport.abort)
        elif self._timer and not self.is_due:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_started = started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.streams.end()  # type: ignore[union-attr]  # or the server waits for them
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Like uvicorn's, but the signal is not raised again at the end: a stop counts as success."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
