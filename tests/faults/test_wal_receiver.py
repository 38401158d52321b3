"""The receiver of WAL against what happens to it and to its disk: nothing acknowledged is lost unsaid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.command import Command
from tests.wal_server import SLOT, Receiving, WalServer, wal_server

from refnet.catalog.wal import segment_of, start_of
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries


@pytest.fixture(scope="module")
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "primary") as found:
        yield found


@pytest.fixture
def receiving(server: WalServer, short_home: Path, tmp_path: Path) -> Iterator[Receiving]:
    yield Receiving.of(server, short_home, tmp_path / "backups")
    assert until(lambda: server.sql(_IDLE) == [(True,)], 20)
    server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


#: Bytes of a segment.
SIZE = 1 << 20
_IDLE = "SELECT count(*) = 0 FROM pg_replication_slots WHERE active"


def test_what_is_committed_is_here_and_status_says_until_when(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        receiving.server.write(3)
        receiving.catch_up(run)
        found = receiving.status()
        assert (found["state"], found["lag_bytes"], found["gaps"]) == ("streaming", 0, [])
        assert found["lag_seconds"] < 60
        assert found["last_commit"]
        assert found["slot_status"] == "reserved"
    # The archive is locked until pg_receivewal has ended too.
    assert until(lambda: receiving.status()["state"] == "stopped", 20)
    assert len(receiving.archive.segments(1)) >= 3
    assert receiving.archive.gaps(receiving.archive.segments(1)[0].start, 1) == ()


def test_what_is_not_here_any_more_cannot_be_restored_whatever_the_receiver_promised(
    receiving: Receiving,
) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        receiving.refnet("backup", "main-cluster", "--no-prove").succeeds()
        receiving.server.write(2)
        receiving.catch_up(run)
        until = datetime.fromisoformat(receiving.status()["restorable_until"])
    for lost in receiving.archive.live.iterdir():
        lost.unlink()
    found = receiving.status()
    last = datetime.fromisoformat(found["last_commit"])
    assert last < until
    assert {found["restorable_until"], found["received_until"]} == {found["last_commit"]}
    assert found["lag_seconds"] > (until - last).total_seconds()


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
        assert lag is not None
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


def test_a_second_receiver_waits_for_the_pg_receivewal_of_one_that_was_killed(receiving: Receiving) -> None:
    """Two of them would write into one file."""
    with receiving.running() as run:
        receiving.catch_up(run)
        child = receiving.child(run)
        os.kill(child, signal.SIGSTOP)
        run.send(signal.SIGKILL)
        run.end()
    receiving.refnet("wal", "run").fails(5, "locked", "another run")
    os.kill(child, signal.SIGCONT)
    assert _ended(child)
    with receiving.running() as run:
        receiving.catch_up(run)


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


def test_two_receivers_of_one_archive_exclude_each_other(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
        receiving.refnet("wal", "run").fails(5, "locked", "another run")


def test_a_middle_segment_that_is_missing_is_said(receiving: Receiving) -> None:
    with receiving.running() as run:
        receiving.catch_up(run)
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
        receiving.catch_up(run)  # its slot is there
        receiving.server.write(1)
        receiving.server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('a message ', 500000))")
        receiving.server.write(1)
        receiving.catch_up(run)
        end = receiving.server.sql("SELECT pg_walfile_name(pg_current_wal_flush_lsn())")[0][0]
        last = segment_of(start_of(end, SIZE) - 1, 1, SIZE)
        receiving.until(run, lambda: last in receiving.archive.present(live=False), "all finished segments")
    found = receiving.archive.segments(1)
    assert sum(one.last_commit is None for one in found) > 2  # in the middle of the record
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
