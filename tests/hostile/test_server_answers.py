"""What answers as a PostgreSQL server would, with rows that nobody asked for: one message, and no wait without an end."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from refnet.core.errors import RefnetError
from refnet.postgres.session import Target

_SSL, _GSS = 80877103, 80877104
_INTEGER, _TEXT = 23, 25
#: A column: its type, and its value (None: NULL).
Row = list[tuple[int, bytes | None]]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def answer(*rows: Row) -> bytes:
    """The answer to one query."""
    columns = b"".join(b"c\0" + struct.pack(">IHIhiH", 0, 0, kind, -1, -1, 0) for kind, _ in rows[0])
    made = message(b"T", struct.pack(">H", len(rows[0])) + columns)
    for row in rows:
        values = (
            struct.pack(">i", -1) if one is None else struct.pack(">i", len(one)) + one for _, one in row
        )
        made += message(b"D", struct.pack(">H", len(row)) + b"".join(values))
    return made + message(b"C", b"SELECT 1\0")


WORDS: dict[str, bytes] = {
    "nothing": message(b"I"),
    "no row": message(b"C", b"SELECT 0\0"),
    "no column": answer([]),
    "only nulls": answer([(_INTEGER, None), (_TEXT, None)]),
    "one column": answer([(_INTEGER, b"7")]),
    "words for a number": answer([(_INTEGER, b"seven"), (_TEXT, b"on")]),
    "no UTF-8": answer([(_INTEGER, b"7"), (_TEXT, b"\xff\xfe")]),
    "many columns": answer([(_TEXT, b"x")] * 5),
    "many rows": answer(*[[(_INTEGER, b"1"), (_TEXT, b"2")]] * 5),
}


def serve(link: socket.socket, said: bytes) -> None:
    with suppress(OSError, struct.error), link, link.makefile("rb") as asked:
        while struct.unpack(">II", head := asked.read(8))[1] in {_SSL, _GSS}:
            link.sendall(b"N")
        asked.read(struct.unpack(">I", head[:4])[0] - 8)
        link.sendall(message(b"R", struct.pack(">I", 0)))
        for setting in (
            b"server_version\x0017.0",
            b"client_encoding\0UTF8",
            b"standard_conforming_strings\0on",
        ):
            link.sendall(message(b"S", setting + b"\0"))
        link.sendall(message(b"K", struct.pack(">II", 4711, 1)) + message(b"Z", b"I"))
        while kind := asked.read(1):
            asked.read(struct.unpack(">I", asked.read(4))[0] - 4)
            if kind == b"S":
                link.sendall(message(b"1") + message(b"2") + said + message(b"Z", b"I"))
            elif kind == b"Q":
                link.sendall(said + message(b"Z", b"I"))


@pytest.fixture
def served() -> Iterator[Callable[[bytes], Target]]:
    """Serves one answer to every query, for every connection."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def accept(said: bytes) -> None:
            with suppress(OSError):
                while True:
                    link, _ = door.accept()
                    threading.Thread(target=serve, args=(link, said), daemon=True).start()

        def start(said: bytes) -> Target:
            threading.Thread(target=accept, args=(said,), daemon=True).start()
            return Target.from_url(f"postgresql://clerk@127.0.0.1:{door.getsockname()[1]}/shop")

        yield start
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("said", WORDS.values(), ids=WORDS)
def test_nonsense_in_place_of_rows_is_one_message(said: bytes, served: Callable[[bytes], Target]) -> None:
    with pytest.raises(RefnetError) as caught:
        served(said).connect({"timezone": "UTC"})

    assert "127.0.0.1" in caught.value.message
    assert caught.value.hint
