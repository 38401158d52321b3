"""Finds the user at the other end of a local connection, by asking the kernel.

A netlink query for one connection (sock_diag(7)) takes microseconds, reading the tables of all sockets milliseconds.
The tables are the fallback where netlink is refused.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
#: The columns of /proc/net/tcp: addresses of both ends, state, user; the state of an open connection.
_LOCAL, _REMOTE, _STATE, _USER, _OPEN = 1, 2, 3, 7, "01"
#: Netlink constants: protocol, kind of request, error "no such connection", state of an open connection.
_SOCK_DIAG, _BY_FAMILY, _NONE, _ESTABLISHED = 4, 20, -2, 1
_HEADER, _REQUEST, _ENDS = struct.Struct("=IHHII"), struct.Struct("=BBBxI"), struct.Struct("!HH16s16s")
#: The answer, after its header: state, both ports, user.
_ANSWER = struct.Struct("=xB2x 4s 32x 12x 12x I")


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
