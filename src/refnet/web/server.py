"""The HTTP server: its socket, its limits, its graceful stop, and which local user a connection belongs to.

The kernel knows that user. A netlink query for one connection (sock_diag(7)) takes microseconds, reading the tables of
all sockets milliseconds; the tables are the fallback where netlink is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.web.app import create
from refnet.web.guard import is_loopback

#: Limits: connections; bytes of a request's head; seconds of an idle connection, of running requests at the stop, of
#: the arrival of a request, of a stalled answer.
CONNECTIONS, HEAD, IDLE, STOP, ARRIVAL, TAKING = 256, 16 << 10, 15, 10, 30, 120
#: The most connections without a complete request, per local user or address.
WAITING = 32
#: The tables of all sockets.
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
#: The columns of /proc/net/tcp: addresses of both ends, state, user; the state of an open connection.
_LOCAL, _REMOTE, _STATE, _USER, _OPEN = 1, 2, 3, 7, "01"
#: Netlink constants: protocol, kind of request, error "no such connection", state of an open connection.
_SOCK_DIAG, _BY_FAMILY, _NONE, _ESTABLISHED = 4, 20, -2, 1
_HEADER, _REQUEST, _ENDS = struct.Struct("=IHHII"), struct.Struct("=BBBxI"), struct.Struct("!HH16s16s")
#: The answer, after its header: state, both ports, user.
_ANSWER = struct.Struct("=xB2x 4s 32x 12x 12x I")


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


def user_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the user id that owns the local socket from `client` to `server`; None if it is not found.

    client, server: address and port of each end.
    """
    try:
        return _asked(client, server)
    except OSError:
        return by_tables(client, server)


def _asked(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """Return the same as `user_of`, by netlink; OSError if netlink is refused."""
    here, there = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
    family = socket.AF_INET if here.version == 4 else socket.AF_INET6
    ends = _ENDS.pack(client[1], server[1], here.packed, there.packed)
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends + struct.pack("=I8s", 0, b"\xff" * 8)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, 1, 0, 0) + body)
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        if struct.unpack_from("=i", answer, _HEADER.size)[0] == _NONE:
            return None
        raise OSError("netlink does not answer about sockets")
    state, ports, user = _ANSWER.unpack_from(answer, _HEADER.size)
    # Without such a connection the kernel answers about a socket that listens at `client`.
    return int(user) if state == _ESTABLISHED and ports == ends[: len(ports)] else None


def by_tables(
    client: tuple[str, int], server: tuple[str, int], tables: Sequence[Path] = _TABLES
) -> int | None:
    """Return the same as `user_of`, from tables of all sockets in the format of /proc/net/tcp."""
    ends = {(here, there) for here, there in zip(_written(client), _written(server), strict=True)}
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except (OSError, UnicodeDecodeError):
            continue
        for words in map(str.split, lines):
            if len(words) > _USER and words[_STATE] == _OPEN and (words[_LOCAL], words[_REMOTE]) in ends:
                return int(words[_USER]) if words[_USER].isdecimal() else None
    return None


def _written(end: tuple[str, int]) -> list[str]:
    """Format an address and a port as in the tables, in hexadecimal; IPv4 also as mapped IPv6."""
    address = ipaddress.ip_address(end[0])
    forms = [address, *([ipaddress.IPv6Address(f"::ffff:{address}")] if address.version == 4 else [address])]
    return [f"{''.join(_words(one.packed))}:{end[1]:04X}" for one in forms]


def _words(packed: bytes) -> list[str]:
    found = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return [(one[::-1] if sys.byteorder == "little" else one).hex().upper() for one in found]
