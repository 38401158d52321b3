"""Base backups against what happens to the server and to the run meanwhile: nothing half is published, and the next one is whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.command import Run
from tests.wal_server import Receiving, WalServer, wal_server

from refnet.core.processes import until
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries

_CHECKPOINTER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
_BEGUN = "SELECT count(*) FROM pg_stat_progress_basebackup"
_SENT = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 1000000"


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tablespaces"])
def server(wheel: Binaries, short_folder: Path, request: pytest.FixtureRequest) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "backed") as found:
        found.settings["summarize_wal"] = "on"
        found.stop()
        found.start()
        if request.param:
            folder = found.data.with_name("fast")
            folder.mkdir()
            account().own(folder)
            found.sql(f"CREATE TABLESPACE fast LOCATION '{folder}'", "ALTER TABLE t SET TABLESPACE fast")
        found.write(3)
        yield found


@pytest.fixture
def receiving(server: WalServer, short_home: Path, tmp_path: Path) -> Receiving:
    return Receiving.of(server, short_home, tmp_path / "backups")


def under_way(receiving: Receiving) -> tuple[Run, int]:
    """A run whose base backup is being sent; with tablespaces, one that has begun. And the checkpointer, which may be stopped.

    The run is stopped, so what is sent fills the pipe; to a folder all of it would be sent, so there the server is held.
    """
    server, is_staged = receiving.server, (receiving.server.data.parent / "fast").exists()
    ((checkpointer,),) = server.sql(_CHECKPOINTER)
    os.kill(checkpointer, signal.SIGSTOP)  # each backup begins with a checkpoint
    run = receiving.refnet.start_alone("backup", "main-cluster", "--no-prove")
    run.until(lambda: server.sql(_BEGUN) == [(1,)], "the backup")
    run.send(signal.SIGSTOP)
    if not is_staged:
        os.kill(checkpointer, signal.SIGCONT)
        run.until(lambda: server.sql(_SENT) == [(1,)], "a megabyte")
    return run, checkpointer


def _is_of(comm: Path, run: Run) -> bool:
    """Whether the process is pg_basebackup or pg_receivewal, started by `run`."""
    try:
        stat = comm.with_name("stat").read_text().rpartition(")")
    except OSError:
        return False
    return stat[0].partition("(")[2].startswith("pg_") and int(stat[2].split()[1]) == run.process.pid


def backed_up(receiving: Receiving) -> str:
    """Make a base backup, which is restored in a scratch server; return what it is."""
    made = receiving.refnet("backup", "main-cluster", "--json")
    made.succeeds()
    (result,) = made.json["results"]
    assert result["proof"]["level"] == "restored"
    return str(result["manifest"]["details"]["base"])


def test_a_server_that_is_killed_during_its_base_backup_leaves_none_and_the_next_one_is_whole(
    receiving: Receiving,
) -> None:
    assert backed_up(receiving) == "full"
    receiving.server.write(1)
    run, checkpointer = under_way(receiving)
    receiving.server.stop(signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(checkpointer, signal.SIGCONT)  # it ends when it sees that the others have
    run.send(signal.SIGCONT)
    run.end().fails(1, "server closed the connection", "retry when the server is up")
    assert len(receiving.refnet.names()) == 1
    assert not [*(receiving.refnet.home / "scratch").glob("refnet-private-*")]
    receiving.server.start()
    assert backed_up(receiving) == "increment"


def test_what_a_killed_base_backup_leaves_goes_with_the_next_one(receiving: Receiving) -> None:
    run, checkpointer = under_way(receiving)
    programs = [int(one.parent.name) for one in Path("/proc").glob("[0-9]*/comm") if _is_of(one, run)]
    assert len(programs) == 2
    run.send(signal.SIGKILL)
    run.end()
    os.kill(checkpointer, signal.SIGCONT)
    assert until(lambda: not any(Path(f"/proc/{one}").exists() for one in programs), 20)
    left = [*(receiving.refnet.home / "scratch").glob("refnet-private-*")]
    assert left
    assert all(one.stat().st_mode & 0o077 == 0 for one in left)
    for one in left:
        os.utime(one, (0, 0))  # a young folder may be of a run that has just begun
    assert receiving.refnet.names() == []
    receiving.refnet("backup", "main-cluster", "--no-prove").succeeds()
    assert not [*(receiving.refnet.home / "scratch").glob("refnet-private-*")]
