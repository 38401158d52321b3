"""The receiver of WAL against what happens to it, to its disk and to its server: nothing acknowledged is lost unsaid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tests.command import Command
from tests.wal_server import SLOT, Receiving, WalServer, wal_server

from refnet.postgres.binaries import Binaries
from refnet.sources.cluster import wal_dump


@pytest.fixture
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "primary") as found:
        yield found


@pytest.fixture
def receiving(server: WalServer, short_home: Path, tmp_path: Path) -> Receiving:
    return Receiving.of(server, short_home, tmp_path / "backups")


def test_what_is_committed_is_here_and_status_says_until_when(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(3)
        receiving.catch_up(run)
        found = receiving.status()
        assert (found["state"], found["lag_bytes"], found["gaps"]) == ("streaming", 0, [])
        assert found["lag_seconds"] < 60
        assert found["last_commit"]
        assert found["slot_status"] == "reserved"
    assert receiving.status()["state"] == "stopped"
    assert len(receiving.archive.segments(1)) >= 3
    assert receiving.archive.gaps(receiving.archive.segments(1)[0].start, 1) == ()


def test_an_idle_server_does_not_let_the_lag_grow(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        first = receiving.report()
        assert first
        receiving.until(
            run, lambda: (now := receiving.report()) and now.at > first.at and now.received_until, "a report"
        )
        later = receiving.report()
        assert later
        assert later.received_until
        assert later.received_lsn == first.received_lsn
        lag = later.lag(later.at)
        assert lag
        assert lag.total_seconds() < 5


def test_a_killed_receiver_goes_on_where_it_was(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(2)
        receiving.catch_up(run)
        child = receiving.child(run)
        run.send(signal.SIGKILL)
        run.end()
        assert _ended(child)
    receiving.server.write(2)
    with receiving.running() as run:
        receiving.catch_up(run)
    archive = receiving.archive
    assert archive.gaps(archive.segments(1)[0].start, 1) == ()


def _ended(pid: int) -> bool:
    """Whether the process has ended; pg_receivewal gets a signal when its parent dies."""
    end = subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=30, check=False)
    return end.returncode == 0


def test_a_killed_pg_receivewal_is_started_again(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        child = receiving.child(run)
        os.kill(child, signal.SIGKILL)
        receiving.server.write(2)
        receiving.catch_up(run)
        assert receiving.child(run) != child


def test_a_server_that_was_killed_is_followed_when_it_is_back(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        receiving.server.stop(signal.SIGKILL)
        receiving.says(run, "ended")
        assert receiving.status()["state"] == "waiting"
        receiving.server.start()
        receiving.server.write(2)
        receiving.catch_up(run)
        assert receiving.status()["gaps"] == []


def test_a_stopped_pg_receivewal_shows_as_lag(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        child = receiving.child(run)
        os.kill(child, signal.SIGSTOP)
        before = receiving.report()
        assert before
        receiving.server.sql("INSERT INTO t VALUES (1, 'not here')")
        receiving.until(run, lambda: (now := receiving.report()) and now.lag_bytes > 0, "the lag")
        end = receiving.lsn()
        held = receiving.report()
        assert held
        assert held.received_lsn < end
        os.kill(child, signal.SIGCONT)
        receiving.catch_up(run)


def test_a_partial_segment_that_was_cut_short_is_kept_and_received_again(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(2)
        receiving.catch_up(run)
    (partial,) = receiving.archive.live.glob("*.partial")
    os.truncate(partial, 300_000)
    with receiving.running() as run:
        receiving.server.sql("INSERT INTO t VALUES (2, 'more')")
        receiving.catch_up(run)
    assert [one.stat().st_size for one in receiving.archive.live.glob("*.short-*")] == [300_000]
    with receiving.running() as run:
        receiving.server.write(2)
        receiving.catch_up(run)
        receiving.until(run, lambda: not [*receiving.archive.live.glob("*.short-*")], "the complete segment")
    assert receiving.archive.end(1)


def test_a_slot_that_was_dropped_is_made_again(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(1)
        receiving.catch_up(run)
    receiving.server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
    receiving.server.write(1)
    with receiving.running() as run:
        receiving.catch_up(run)
        assert receiving.status()["slot_status"] == "reserved"


def test_wal_that_the_server_removed_is_a_gap_that_is_said(receiving: Receiving) -> None:
    server = receiving.server
    with receiving.running() as run:
        server.write(2)
        receiving.catch_up(run)
    server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
    for _ in range(4):
        server.write(3)
        server.sql("CHECKPOINT")
    with receiving.running() as run:
        receiving.catch_up(run)
        server.write(1)
        receiving.catch_up(run)
    found = receiving.status()
    assert found["gaps"]
    assert found["gaps"][0]["segments"] > 1


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


def test_a_full_disk_stops_the_receiver_and_not_for_ever(receiving: Receiving, small_disk: Path) -> None:
    disk = small_disk / "backups"
    subprocess.run(["mount", "-o", "remount,size=12m", small_disk], check=True)
    full = Receiving(
        receiving.server, Command(receiving.refnet.home, disk, "none", receiving.refnet.environment)
    )
    with full.running() as run:
        full.catch_up(run)
        (small_disk / "filler").write_bytes(bytes(9 << 20))
        receiving.server.sql(
            "CREATE TABLE u AS SELECT md5(i::text) || md5((-i)::text) AS v FROM generate_series(1, 40000) i"
        )
        receiving.until(
            run,
            lambda: (now := full.report()) and "space" in now.message,
            "trouble",
        )
        (small_disk / "filler").unlink()
        full.catch_up(run)
    assert full.status()["gaps"] == []


def test_a_fork_after_a_restore_in_place_keeps_both_branches(receiving: Receiving) -> None:
    server = receiving.server
    old = server.data.with_name("old")
    with receiving.running() as run:
        receiving.catch_up(run)
        server.stop()
        shutil.copytree(server.data, old, symlinks=True)  # a copy of the whole data folder
        _owned_as(server.data, old)
        server.start()
        server.write(3)
        receiving.catch_up(run)
        server.stop()
    shutil.rmtree(server.data)
    old.rename(server.data)
    (server.data / "recovery.signal").touch()
    _owned_as(server.data, server.data / "recovery.signal")
    server.settings |= {"restore_command": "false", "recovery_target_timeline": "current"}
    server.start()
    server.sql("SELECT pg_promote()") if server.sql("SELECT pg_is_in_recovery()") == [(True,)] else None
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


def _owned_as(folder: Path, other: Path) -> None:
    found = folder.stat()
    for one in (other, *other.rglob("*")):
        os.chown(one, found.st_uid, found.st_gid, follow_symlinks=False)


def test_a_server_that_was_set_back_without_a_new_timeline_is_refused(receiving: Receiving) -> None:
    server = receiving.server
    old = server.data.with_name("old")
    with receiving.running() as run:
        receiving.catch_up(run)
        server.stop()
        shutil.copytree(server.data, old, symlinks=True)
        _owned_as(server.data, old)
        server.start()
        server.write(3)
        receiving.catch_up(run)
        server.stop()
        shutil.rmtree(server.data)
        old.rename(server.data)
        server.start()
        receiving.says(run, "does not continue the WAL of main")


def test_a_clone_that_is_ahead_on_the_same_timeline_is_refused(receiving: Receiving) -> None:
    server = receiving.server
    old = server.data.with_name("old")
    with receiving.running() as run:
        receiving.catch_up(run)
        server.stop()
        shutil.copytree(server.data, old, symlinks=True)
        _owned_as(server.data, old)
        server.start()
        server.sql("INSERT INTO t SELECT g, 'original' FROM generate_series(1, 100) g")
        receiving.catch_up(run)
        server.stop()
    before = receiving.archive.read(receiving.archive.last(1) or "")
    shutil.rmtree(server.data)
    old.rename(server.data)
    server.start()
    server.sql("INSERT INTO t SELECT g, 'a clone, which wrote more' FROM generate_series(1, 500) g")
    with receiving.running() as run:
        receiving.says(run, "sends other WAL")
    assert receiving.archive.read(receiving.archive.last(1) or "") == before


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


def test_two_receivers_of_one_archive_exclude_each_other(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        receiving.refnet("wal", "run").fails(5, "locked", "another run")


def test_a_middle_segment_that_is_missing_is_said(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(4)
        receiving.catch_up(run)
    archive = receiving.archive
    gone = archive.segments(1)[1].name
    (archive.folder_of(1) / f"{gone}.gz").unlink()
    assert receiving.status()["gaps"] == [{"first": gone, "last": gone, "segments": 1}]


def test_the_monitor_and_the_metrics_say_how_far_it_is(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(1)
        receiving.catch_up(run)
        said = receiving.refnet("monitor", "--json").json["checks"]
        metrics = receiving.refnet("metrics").out
    (stream,) = [one for one in said if one["check"] == "stream"]
    assert (stream["source"], stream["status"]) == ("main-cluster", "ok")
    assert 'refnet_wal_receiver_up{cluster="main"} 1.0' in metrics
    assert 'refnet_wal_lag_bytes{cluster="main"} 0.0' in metrics
    assert 'refnet_wal_slot_ok{cluster="main"} 1.0' in metrics
    said = receiving.refnet("monitor", "--json").json["checks"]
    assert next(one["says"] for one in said if one["check"] == "stream").endswith("no receiver runs")


def test_a_record_longer_than_segments_stops_nothing(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.server.write(1)
        receiving.server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('a message ', 500000))")
        receiving.server.write(1)
        receiving.catch_up(run)
        receiving.until(run, lambda: receiving.status()["segments"] >= 6, "all segments in the archive")
    found = receiving.archive.segments(1)
    assert any(one.last_commit is None for one in found)  # in the middle of the record
    assert found[-1].last_commit
    assert receiving.archive.gaps(found[0].start, 1) == ()
    assert receiving.archive.end(1)


def test_a_stopped_receiver_shows_as_lag_too(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        run.send(signal.SIGSTOP)
        before = receiving.status()["lag_seconds"]
        receiving.until(run, lambda: receiving.status()["lag_seconds"] > before + 2, "the lag")
        run.send(signal.SIGCONT)
        receiving.catch_up(run)
        receiving.until(run, lambda: receiving.status()["lag_seconds"] < 2, "the end of the lag")


def test_a_standby_that_is_promoted_while_it_sends_is_followed(receiving: Receiving) -> None:
    server = receiving.server
    server.write(1)
    server.stop()
    (server.data / "standby.signal").touch()
    _owned_as(server.data, server.data / "standby.signal")
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
    return {one.xid for name in names for one in wal_dump.commit_records(program, folder, name)}
