"""What the monitor says of a stream of WAL, and which moments can be restored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from refnet.catalog.manifest import Entry, Manifest
from refnet.catalog.monitoring import Status
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import Fork, Gap, lsn_text, segment_of
from refnet.catalog.wal_status import StoreLag, StreamStatus, reachable, watch_stream
from refnet.catalog.wal_stream import Course, StreamReport, StreamState, course

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
SIZE = 16 << 20
REPORT = StreamReport(
    StreamState.STREAMING, NOW, 7, 1, 9 * SIZE, 9 * SIZE, NOW, slot="refnet_main", slot_status="reserved"
)
FOUND = StreamStatus("main", NOW, "/b/cluster/7", "7", SIZE, REPORT, is_received=True)


def base(name: str, start: int) -> Entry:
    details = {
        "system_identifier": "7",
        "server_version": "17.1",
        "base": "full",
        "timeline": 1,
        "start_lsn": lsn_text(start),
        "end_lsn": lsn_text(start + 100),
        "raw_bytes": 5,
        "tablespaces": 0,
    }
    source = SourceName("main-cluster", Kind.CLUSTER)
    return Entry(Manifest(source, f"{name}.base.tar.gz", NOW, 1, "0" * 64, 1.0, details=details))


def gap(first: int, last: int) -> Gap:
    return Gap(segment_of(first * SIZE, 1, SIZE), segment_of(last * SIZE, 1, SIZE), last - first + 1)


def statuses(found: StreamStatus) -> dict[str, Status]:
    return {one.what: one.status for one in watch_stream(found)}


def test_a_day_without_a_commit_is_no_alarm() -> None:
    later = NOW + timedelta(days=1)  # the server answers each second that nothing happened
    report = replace(REPORT, at=later, received_until=later)
    assert statuses(replace(FOUND, now=later, report=report)) == {"stream": Status.OK}


@pytest.mark.parametrize(
    ("minutes", "status"),
    [(1, Status.OK), (6, Status.WARNING), (31, Status.CRITICAL), (3000, Status.CRITICAL)],
)
def test_what_is_not_received_for_some_time_is_an_alarm(minutes: int, status: Status) -> None:
    found = replace(FOUND, now=NOW + timedelta(minutes=minutes), is_received=False)
    assert statuses(found) == {"stream": status}
    (check,) = watch_stream(found)
    assert check.says.endswith("no receiver runs")


def test_the_clocks_of_two_machines_do_not_change_the_lag() -> None:
    ahead = replace(REPORT, received_until=NOW + timedelta(hours=1), ahead=3600.0)
    assert ahead.lag(NOW) == timedelta(0)
    assert ahead.lag(NOW + timedelta(seconds=5)) == timedelta(seconds=5)


def test_a_stream_that_never_ran_is_a_warning() -> None:
    assert statuses(StreamStatus("main", NOW)) == {"stream": Status.WARNING}


@pytest.mark.parametrize(
    ("status", "left", "wanted"),
    [
        ("lost", -1, Status.CRITICAL),
        ("unreserved", 5, Status.CRITICAL),
        ("extended", 1 << 20, Status.WARNING),
        ("reserved", 1 << 40, None),
        ("reserved", None, None),
    ],
)
def test_a_slot_that_loses_wal_is_an_alarm_before_it_is_lost(
    status: str, left: int | None, wanted: Status | None
) -> None:
    report = replace(REPORT, slot_status=status, slot_left=left, received_lsn=8 * SIZE)
    assert statuses(replace(FOUND, report=report)).get("slot") is wanted


def test_a_gap_is_an_alarm_until_a_base_backup_is_newer() -> None:
    old, new = base("a", 2 * SIZE), base("b", 8 * SIZE)
    assert reachable([old], "7", [gap(4, 5)], SIZE) == (None, (gap(4, 5),))
    assert reachable([old, new], "7", [gap(4, 5)], SIZE) == (new, ())
    assert reachable([old, new], "7", [], SIZE) == (old, ())
    assert reachable([], "7", [gap(4, 5)], SIZE) == (None, (gap(4, 5),))
    assert reachable([old, new], "8", [], SIZE) == (None, ())  # of another server
    found = replace(FOUND, open_gaps=(gap(4, 5),))
    assert statuses(found)["gaps"] is Status.CRITICAL
    assert found.window is None


def test_segments_that_a_store_never_got_are_an_alarm() -> None:
    lag = StoreLag("nas", NOW, NOW)
    assert statuses(replace(FOUND, stores=(lag,)))["WAL in nas"] is Status.OK
    lost = replace(lag, never_sent="0" * 24)
    assert statuses(replace(FOUND, stores=(lost,)))["WAL in nas"] is Status.CRITICAL


def test_a_base_backup_whose_parent_is_missing_heals_no_gap_and_opens_no_window() -> None:
    full, lost = base("a", 2 * SIZE), base("b", 8 * SIZE)
    details = {**lost.manifest.details, "base": "increment", "parent": "gone"}
    increment = replace(lost, manifest=replace(lost.manifest, details=details))
    assert reachable([increment], "7", [], SIZE) == (None, ())
    assert reachable([full, increment], "7", [gap(4, 5)], SIZE) == (None, (gap(4, 5),))


def test_before_a_gap_that_is_open_moments_are_offered_up_to_its_last_commit() -> None:
    one, last = base("a", 5), NOW - timedelta(minutes=1)
    found = replace(FOUND, now=NOW + timedelta(minutes=5), base=one, open_gaps=(gap(7, 7),))
    assert found.window is None
    late = replace(found, before_gap=NOW + timedelta(minutes=1))
    assert late.window == (one.published, NOW + timedelta(minutes=1))
    assert replace(found, before_gap=last).window is None  # before the end of the base backup


def test_the_window_begins_with_the_end_of_a_base_and_ends_with_what_is_received() -> None:
    one = base("a", 2 * SIZE)
    assert replace(FOUND, base=one).window == (one.published, NOW)
    assert FOUND.window is None


FORK = (Fork(1, 5 * SIZE),)


@pytest.mark.parametrize(
    ("ours", "begins", "received", "timeline", "history", "end", "wanted"),
    [
        (1, 4, 4, 1, (), 6, Course.CONTINUE),
        (1, 4, 6, 1, (), 6, Course.CONTINUE),
        (1, 4, 4, 2, FORK, 6, Course.CONTINUE),
        (1, 5, 5, 2, FORK, 6, Course.CONTINUE),
        (1, 6, 6, 2, FORK, 6, Course.BRANCH),
        (1, 4, 7, 1, (), 6, None),  # set back
        (2, 4, 4, 1, (), 9, None),  # an older timeline
        (3, 4, 4, 2, FORK, 9, None),  # another branch
    ],
)
def test_a_server_that_does_not_continue_what_was_received_is_refused(
    ours: int,
    begins: int,
    received: int,
    timeline: int,
    history: tuple[Fork, ...],
    end: int,
    wanted: Course | None,
) -> None:
    def decide() -> Course:
        return course(
            ours=ours,
            begins=begins * SIZE,
            received=received * SIZE,
            timeline=timeline,
            history=history,
            server_lsn=end * SIZE,
        )

    if wanted:
        assert decide() is wanted
    else:
        with pytest.raises(ValueError, match="before"):
            decide()
