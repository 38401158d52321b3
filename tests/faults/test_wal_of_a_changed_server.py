"""The receiver of WAL against what happens to its server: lost slots, forks, copies, promotion, the loss of its disk."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tests.command import Run
from tests.wal_server import SLOT, Receiving, WalServer, wal_server

from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.sources.cluster import wal_dump


@pytest.fixture
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "changed") as found:
        yield found


@pytest.fixture
def receiving(server: WalServer, short_home: Path, tmp_path: Path) -> Receiving:
    return Receiving.of(server, short_home, tmp_path / "backups")


def test_a_lost_slot_is_made_again_and_the_gap_is_said(receiving: Receiving) -> None:
    server = receiving.server
    server.settings["max_slot_wal_keep_size"] = "2MB"
    server.stop()
    server.start()
    with receiving.running() as run:
        server.write(2)
        receiving.catch_up(run)
    for _ in range(4):
        server.write(3)
        server.sql("CHECKPOINT")
    assert server.sql("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    with receiving.running() as run:
        receiving.catch_up(run)
        server.write(1)
        receiving.catch_up(run)
    assert receiving.status()["gaps"]
    assert receiving.status()["slot_status"] == "reserved"


def test_a_fork_after_a_restore_in_place_keeps_both_branches(receiving: Receiving) -> None:
    server = receiving.server
    with receiving.running() as run:
        receiving.catch_up(run)
        with server.set_back():
            server.write(3)
            receiving.catch_up(run)
    server.touch("recovery.signal")
    server.settings |= {"restore_command": "false", "recovery_target_timeline": "current"}
    server.start()
    assert until(lambda: server.sql("SELECT pg_is_in_recovery()") == [(False,)], 30)
    server.write(2)
    with receiving.running() as run:
        receiving.catch_up(run)
    archive = receiving.archive
    assert archive.timelines() == (1, 2)
    (fork,) = archive.history(2)
    assert fork.timeline == 1
    assert [one for one in archive.segments(1) if one.start > fork.lsn]
    assert archive.gaps(archive.segments(1)[0].start, 2) == ()
    assert archive.gaps(archive.segments(1)[0].start, 1) == ()


def test_a_server_that_was_set_back_without_a_new_timeline_is_refused(receiving: Receiving) -> None:
    server = receiving.server
    with receiving.running() as run:
        receiving.catch_up(run)
        with server.set_back():
            server.write(3)
            receiving.catch_up(run)
        server.start()
        receiving.says(run, "does not continue the WAL of main")


@pytest.mark.parametrize("is_received", [True, False])
def test_no_base_backup_is_made_of_a_server_that_does_not_continue_the_archive(
    receiving: Receiving, is_received: bool
) -> None:
    """Its own WAL would not be in the archive, but that of the other server under the same names."""
    server = receiving.server
    with receiving.running() as run:
        receiving.catch_up(run)
        with server.set_back():
            server.write(3)
            receiving.catch_up(run)
    server.start()
    refused = ("does not continue the WAL of main", "pg_promote")
    if is_received:
        with receiving.running() as run:
            receiving.says(run, "does not continue")
            receiving.refnet("backup", "main-cluster").fails(4, *refused)
    else:
        receiving.refnet("backup", "main-cluster").fails(4, *refused)
    assert receiving.refnet.names() == []


def test_a_clone_that_is_ahead_on_the_same_timeline_is_refused(receiving: Receiving) -> None:
    server = receiving.server
    with receiving.running() as run:
        receiving.catch_up(run)
        with server.set_back():
            server.sql("INSERT INTO t SELECT g, 'original' FROM generate_series(1, 100) g")
            receiving.catch_up(run)
    before = receiving.archive.read(max(receiving.archive.present()))
    server.start()
    server.sql("INSERT INTO t SELECT g, 'a clone, which wrote more' FROM generate_series(1, 500) g")
    with receiving.running() as run:
        _refuses(receiving, run, "sends other WAL")
    assert receiving.archive.read(max(receiving.archive.present())) == before


def _lay_a_copy_aside(server: WalServer) -> None:
    """Copy the server, which is restarted."""
    server.stop()
    server.copy(server.data, server.data.with_name("copy"))
    server.start()


def _change_places(server: WalServer) -> None:
    """Run the copy in the place of the server; the next time, the server again."""
    server.stop()
    spare, copy = server.data.with_name("spare"), server.data.with_name("copy")
    server.data.rename(spare)
    copy.rename(server.data)
    spare.rename(copy)
    server.start()


def _receive_beside_a_copy(receiving: Receiving, *more: str) -> dict[str, str]:
    """Receive what the server writes after it was copied, and `more`; the SHA-256 of what is in the archive then."""
    with receiving.running() as run:
        receiving.server.write(2)
        receiving.catch_up(run)
        _lay_a_copy_aside(receiving.server)
        receiving.server.sql("INSERT INTO t SELECT g, 'original' FROM generate_series(1, 100) g", *more)
        receiving.catch_up(run)
    return _digests(receiving)


def _refuses(receiving: Receiving, run: Run, why: str) -> None:
    """Wait until the receiver has refused the server three times: the first attempts move its slot."""
    seen = set[datetime]()

    def refused() -> bool:
        found = receiving.report()
        seen.update({found.at} if found and why in found.message else ())
        return len(seen) > 2

    receiving.until(run, refused, why)


def _digests(receiving: Receiving) -> dict[str, str]:
    return {one.name: one.sha256 for one in receiving.archive.segments(1)}


@pytest.mark.parametrize("more", [(), ("SELECT pg_switch_wal()",)], ids=["in a segment", "at its end"])
@pytest.mark.parametrize("ahead", [0, 3], ids=["within it", "by segments"])
def test_no_base_backup_is_made_of_a_copy_that_wrote_ahead_while_no_receiver_ran(
    receiving: Receiving, more: tuple[str, ...], ahead: int
) -> None:
    server, before = receiving.server, _receive_beside_a_copy(receiving, *more)
    _change_places(server)
    server.sql("INSERT INTO t SELECT g, 'a copy, which wrote more' FROM generate_series(1, 500) g", *more)
    server.write(ahead)
    receiving.refnet("backup", "main-cluster").fails(4, "it is another server, or a copy", "pg_promote")
    assert receiving.refnet.names() == []
    assert _digests(receiving) == before
    _change_places(server)
    server.write(1)
    receiving.refnet("backup", "main-cluster").succeeds()
    with receiving.running() as run:
        receiving.catch_up(run)
    assert receiving.status()["gaps"] == []


def test_a_copy_that_wrote_ahead_is_refused_where_the_last_segment_was_complete(receiving: Receiving) -> None:
    """No byte of it comes again: the first record of the next one must follow its last one."""
    server, before = receiving.server, _receive_beside_a_copy(receiving, "SELECT pg_switch_wal()")
    for idle in receiving.archive.live.glob("*.partial"):  # the server wrote that without being asked
        idle.unlink()
    told = receiving.report()
    _change_places(server)
    server.write(4)
    with receiving.running() as run:
        _refuses(receiving, run, "does not continue what was received")
    found = receiving.report()
    assert told
    assert found
    assert found.received_lsn <= told.received_lsn
    assert found.received_until == told.received_until
    assert _digests(receiving) == before
    _change_places(server)
    with receiving.running() as run:
        server.write(1)
        receiving.catch_up(run)
    assert receiving.status()["gaps"] == []


def test_a_copy_that_wrote_ahead_is_refused_where_a_base_backup_fetched_newer_wal(
    receiving: Receiving,
) -> None:
    server = receiving.server
    _receive_beside_a_copy(receiving)
    server.write(20)  # too many to fetch again
    receiving.refnet("backup", "main-cluster", "--no-prove").succeeds()
    assert receiving.status()["gaps"]
    before = _digests(receiving)
    _change_places(server)
    server.write(30)
    with receiving.running() as run:
        _refuses(receiving, run, "sends other WAL")
    assert _digests(receiving) == before
    _change_places(server)
    with receiving.running() as run:
        receiving.catch_up(run)
    assert receiving.status()["gaps"] == []


def test_another_server_gets_an_archive_of_its_own(
    receiving: Receiving, wheel: Binaries, short_folder: Path
) -> None:
    with receiving.running() as run:
        receiving.server.write(1)
        receiving.catch_up(run)
    first = receiving.archive.folder
    with wal_server(wheel, short_folder / "other") as other:
        second = Receiving.of(other, receiving.refnet.home, receiving.refnet.backups)
        with second.running() as run:
            second.until(
                run,
                lambda: second.status()["system_identifier"] not in {None, first.name},
                "the other server",
            )
    assert {one.name for one in first.parent.iterdir()} > {first.name}
    assert [*(first / "wal" / "00000001").glob("*.gz")]


def test_a_standby_that_is_promoted_while_it_sends_is_followed(receiving: Receiving) -> None:
    server = receiving.server
    server.write(1)
    server.stop()
    server.touch("standby.signal")
    server.start()
    with receiving.running() as run:
        receiving.until(run, lambda: receiving.report() and receiving.report().received_until, "the stream")  # type: ignore[union-attr]
        server.sql("SELECT pg_promote()")
        server.write(2)
        receiving.catch_up(run)
    archive = receiving.archive
    (fork,) = archive.history(2)
    assert fork.timeline == 1
    assert archive.gaps(archive.segments(2)[0].start, 2) == ()


def test_commits_before_the_reported_moment_outlive_the_server_and_its_disk(
    receiving: Receiving, tmp_path: Path
) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        with _commits(receiving) as acknowledged:
            receiving.until(run, lambda: len(acknowledged) > 500, "commits")
            began = min(acknowledged.values())
            receiving.until(
                run,
                lambda: (now := receiving.report()) and now.received_until and now.received_until > began,
                "a report",
            )
            receiving.server.stop(signal.SIGKILL)
        shutil.rmtree(receiving.server.data)
        found = receiving.report()
    assert found
    assert found.received_until
    promised = {xid for xid, at in acknowledged.items() if at < found.received_until}
    assert promised
    assert promised <= _received(receiving, tmp_path / "plain")


def test_every_commit_outlives_the_disk_if_the_receiver_is_a_synchronous_standby(
    receiving: Receiving, tmp_path: Path
) -> None:
    server = receiving.server
    with receiving.running() as run:
        receiving.catch_up(run)
        server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{SLOT}'", "SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        receiving.until(run, lambda: server.sql(state) == [("sync",)], "the synchronous standby")
        with _commits(receiving) as acknowledged:
            receiving.until(run, lambda: len(acknowledged) > 500, "commits")
            server.stop(signal.SIGKILL)
        shutil.rmtree(server.data)
    assert acknowledged.keys() <= _received(receiving, tmp_path / "plain")


@contextmanager
def _commits(receiving: Receiving) -> Iterator[dict[int, datetime]]:
    """Two sessions commit, until the server is gone: transactions whose commit was acknowledged, and when."""
    acknowledged = dict[int, datetime]()

    def write() -> None:
        with (
            suppress(psycopg.Error),
            psycopg.connect(receiving.server.conninfo(), autocommit=True) as session,
        ):
            while True:
                row = session.execute(
                    "INSERT INTO t VALUES (1) RETURNING pg_current_xact_id()::text"
                ).fetchone()
                acknowledged[int(row[0] if row else 0)] = datetime.now(UTC)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for one in writers:
        one.start()
    yield acknowledged
    for one in writers:
        one.join()


def _received(receiving: Receiving, folder: Path) -> set[int]:
    """The transactions whose commit is in the archive, which is written to the new `folder`."""
    archive = receiving.archive
    folder.mkdir()
    names, program = sorted(archive.present()), archive.waldump()
    archive.provide(names, folder)
    assert program
    return {one.xid for one in wal_dump.commit_records(program, folder, names, 1 << 63)}
