"""The user at the other end of a connection on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from refnet.web.server import by_tables, user_of


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_of_this_machine_belongs_to_its_user(family: socket.AddressFamily, host: str) -> None:
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        ours, theirs = client.getsockname()[:2], server.getsockname()[:2]
        for find in (user_of, by_tables):
            assert find(ours, theirs) == os.geteuid()
            assert find((host, 1), theirs) is None
            assert find(ours, (host, 1)) is None
            assert find(theirs, (host, 1)) is None  # a socket that listens is no connection


def test_a_client_that_writes_ipv4_within_ipv6_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        ends = ("127.0.0.1", client.getsockname()[1]), server.getsockname()
        assert user_of(*ends) == by_tables(*ends) == os.geteuid()


def test_the_tables_are_read_where_netlink_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ends = client.getsockname(), server.getsockname()
        monkeypatch.setattr(socket, "AF_NETLINK", 999)
        assert user_of(*ends) == os.geteuid()


@pytest.mark.parametrize("text", [b"", b"head\n0: x", b"head\n\xff\n", b"head\n0: 0100007F:0001 0100007F:0002 01 x x x x\n",
    b"head\n0: 0100007F:0001 0100007F:0002 01 a b c -1 d\n", b"head\n0: 0100007F:0001 0100007F:0002 06 a b c 7 d\n"])  # fmt: skip
def test_a_table_that_does_not_say_it_names_nobody(tmp_path: Path, text: bytes) -> None:
    table = tmp_path / "tcp"
    table.write_bytes(text)
    assert by_tables(("127.0.0.1", 1), ("127.0.0.1", 2), [tmp_path / "missing", table]) is None
