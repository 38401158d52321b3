"""What the data folder of a server of ours says, where code of a dump may have written it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, texts

from refnet.postgres.account import account
from refnet.postgres.postmaster import Postmaster, data_major

PID_FILE = b"4711\n/var/lib/refnet/data\n1764090001\n5432\n/run/refnet\n\n  5432001 7\nready   \n"


@fuzzed
@given(pid_file=st.one_of(damaged(PID_FILE), texts.map(lambda text: text.encode(errors="replace"))))
@example(pid_file="²\n".encode())
@example(pid_file=b"9" * 4000)
def test_the_pid_file_of_a_server_is_read(pid_file: bytes, folder: Path) -> None:
    (folder / "postmaster.pid").write_bytes(pid_file)
    server = Postmaster(folder, folder / "socket", account())
    pid = outcome(server.pid)
    assert pid is None or 0 < pid < 10_000_000
    assert outcome(server.is_running) is not None
    assert outcome(server.is_ready) is not None
    assert outcome(server.socket_in_use)


@fuzzed
@given(version=st.one_of(damaged(b"18\n"), texts.map(lambda text: text.encode(errors="replace"))))
def test_the_version_of_a_data_folder_is_read_or_refused(version: bytes, folder: Path) -> None:
    (folder / "PG_VERSION").write_bytes(version)
    outcome(lambda: data_major(folder))
