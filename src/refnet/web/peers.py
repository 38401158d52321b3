"""Which user of this machine is at the other end of a connection, by the kernel's tables of sockets."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
#: The positions of a line's fields: addresses of both ends, state, user; the state of an open connection.
_LOCAL, _REMOTE, _STATE, _USER, _OPEN = 1, 2, 3, 7, "01"


def user_of(client: tuple[str, int], server: tuple[str, int], tables: Sequence[Path] = _TABLES) -> int | None:
    """Return the user id whose socket connects `client` to `server` on this machine; None if it is not found.

    client, server: address and port of each end. tables: files as /proc/net/tcp of Linux.
    """
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
    """Return an address and a port as the tables write them: hexadecimal words of 4 bytes; IPv4 also within IPv6."""
    address = ipaddress.ip_address(end[0])
    forms = [address, *([ipaddress.IPv6Address(f"::ffff:{address}")] if address.version == 4 else [address])]
    return [f"{''.join(_words(one.packed))}:{end[1]:04X}" for one in forms]


def _words(packed: bytes) -> list[str]:
    found = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return [(one[::-1] if sys.byteorder == "little" else one).hex().upper() for one in found]
