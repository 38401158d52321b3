"""Where a recovery of a cluster begins and stops, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from refnet.catalog.cluster_base import BaseFacts, BaseKind
from refnet.catalog.recovery_target import (
    Archived,
    Candidate,
    RecoveryPlan,
    Timeline,
    Wanted,
    at_end_of,
    decide,
    parse_moment,
    shown,
)
from refnet.catalog.wal import CommitRecord, Fork, Segment, segment_of, start_of
from refnet.core.errors import Exit, RefnetError

SIZE = 1 << 20
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def commit(position: float, minutes: float) -> CommitRecord:
    """A commit in the segment of the whole number of `position`."""
    return CommitRecord(int(position * SIZE), int(position * 100), at(minutes))


def timeline(number: int, commits: Sequence[CommitRecord], last: int, *history: Fork) -> Timeline:
    """A timeline with the segments from its fork up to `last`; the last one is not in the index yet."""
    first = history[-1].lsn // SIZE if history else 1
    segments = []
    for each in range(first, last):
        times = [one.time for one in commits if one.lsn // SIZE == each]
        name = segment_of(each * SIZE, number, SIZE)
        segments.append(
            Segment(name, each * SIZE, False, "", 1, min(times, default=None), max(times, default=None))
        )
    return Timeline(number, history, tuple(segments), last * SIZE + 100)


def archive(*timelines: tuple[Timeline, Sequence[CommitRecord]], without: Sequence[str] = ()) -> Archived:
    commits = {each.number: list(found) for each, found in timelines}
    names = {one.name for each, _ in timelines for one in each.segments}
    names |= {segment_of(each.end or 0, each.number, SIZE) for each, _ in timelines}

    def commits_in(segment: str) -> list[CommitRecord]:
        start, number = start_of(segment, SIZE), int(segment[:8], 16)
        return [one for one in commits[number] if start <= one.lsn < start + SIZE]

    last = max(one.time for found in commits.values() for one in found)
    return Archived(
        SIZE, {each.number: each for each, _ in timelines}, frozenset(names - {*without}), commits_in, last
    )


def base(start: float, end: float, number: int = 1, *, problem: str = "") -> Candidate:
    facts = BaseFacts("7", "17.1", BaseKind.FULL, "", int(start * SIZE), int(end * SIZE), number, 1000, 0)
    return Candidate(f"base-{start:g}", facts, at(start), problem)


#: A commit a minute, one in each of the segments 1 to 9.
COMMITS = [commit(number + 0.5, number) for number in range(1, 10)]
ONE = archive((timeline(1, COMMITS, 9), COMMITS))
BASES = [base(2, 2.2), base(5, 5.7)]


def refused(wanted: Wanted, archived: Archived = ONE, bases: Sequence[Candidate] = BASES) -> RefnetError:
    with pytest.raises(RefnetError) as error:
        decide(wanted, archived, bases)
    return error.value


def segments(plan: RecoveryPlan) -> list[int]:
    return [int(name[16:], 16) for name in plan.segments]


def test_the_newest_base_that_ended_before_the_moment_is_used() -> None:
    early, late = decide(Wanted(time=at(4.9)), ONE, BASES), decide(Wanted(time=at(7)), ONE, BASES)
    assert (early.base.name, late.base.name) == ("base-2", "base-5")
    assert segments(early) == [2, 3, 4, 5, 6]
    assert segments(late) == [5, 6, 7, 8, 9]


def test_a_base_that_ended_in_the_segment_of_the_moment_is_compared_with_the_commit_itself() -> None:
    inside = [base(2, 2.2), base(5, 5.4), base(5.6, 5.7)]
    assert decide(Wanted(time=at(4.9)), ONE, inside).base.name == "base-5"
    assert decide(Wanted(time=at(5)), ONE, inside).base.name == "base-5.6"


def test_the_target_has_a_numeric_offset_and_a_timeline() -> None:
    plan = decide(Wanted(time=datetime(2026, 11, 30, 21, 7, 30, 5, ZoneInfo("Asia/Tokyo"))), ONE, BASES)
    assert plan.settings == {
        "recovery_target_time": "2026-11-30 12:07:30.000005+00:00",
        "recovery_target_inclusive": "on",
        "recovery_target_timeline": "1",
        "recovery_target_action": "promote",
    }
    assert plan.stops == "2026-11-30 21:07:30.000005+09:00"


def test_the_latest_stops_at_the_last_complete_record() -> None:
    plan = decide(Wanted(), ONE, BASES)
    assert plan.settings["recovery_target_lsn"] == "0/900064"
    assert segments(plan) == [5, 6, 7, 8, 9]


def test_a_moment_before_the_end_of_every_base_is_refused() -> None:
    error = refused(Wanted(time=at(1.5)), bases=[base(2, 2.7)])
    assert "no base backup ended before 2026-11-30 12:01:30+00:00" in error.message
    assert "no base backup ended before 0/200000" in refused(Wanted(lsn=2 * SIZE)).message


def test_a_moment_after_the_last_commit_is_refused_unless_the_stream_is_known_to_be_complete() -> None:
    error = refused(Wanted(time=at(60)))
    assert (
        "later than what the archive has: it has everything up to 2026-11-30 12:09:00+00:00" in error.message
    )
    idle = Archived(SIZE, ONE.timelines, ONE.present, ONE.commits, at(60))
    plan = decide(Wanted(time=at(60)), idle, BASES)
    assert plan.settings["recovery_target_lsn"] == "0/900064"
    assert plan.notes == ("there is no commit later than 2026-11-30 13:00:00+00:00 in the archive",)
    assert "after the end of the WAL" in refused(Wanted(lsn=20 * SIZE)).message


def test_a_missing_segment_is_refused_and_an_older_base_is_no_way_around_it() -> None:
    gap = archive((timeline(1, COMMITS, 9), COMMITS), without=[segment_of(6 * SIZE, 1, SIZE)])
    error = refused(Wanted(time=at(8)), gap)
    assert (
        error.message
        == f"WAL is missing or damaged between base-5 and that moment: {segment_of(6 * SIZE, 1, SIZE)}"
    )
    assert decide(Wanted(time=at(4.5)), gap, BASES).base.name == "base-2"
    assert decide(Wanted(time=at(8)), gap, [*BASES, base(7, 7.1)]).base.name == "base-7"


def test_a_base_whose_parent_is_missing_gives_way_to_an_older_one() -> None:
    lacking = [base(2, 2.2), base(5, 5.7, problem="base-4 is missing")]
    plan = decide(Wanted(time=at(8)), ONE, lacking)
    assert plan.base.name == "base-2"
    assert plan.notes == ("base-5 cannot be used: base-4 is missing; an older base backup is used",)
    error = refused(Wanted(time=at(8)), bases=lacking[1:])
    assert (error.message, error.code) == ("base-5 cannot be used: base-4 is missing", Exit.DAMAGED)


#: An in-place recovery to minute 4 took place at minute 20: timeline 2 forked there, and 1 went on to minute 9.
FORK = Fork(1, int(4.6 * SIZE))
LATER = [commit(number + 0.8, 16 + number) for number in range(4, 9)]
FORKED = archive((timeline(1, COMMITS, 9), COMMITS), (timeline(2, LATER, 8, FORK), LATER))


def test_a_moment_on_the_old_branch_is_recovered_on_the_old_branch() -> None:
    """The newest timeline would silently give the state of minute 4."""
    plan = decide(Wanted(time=at(7.5)), FORKED, BASES)
    assert plan.timeline == 1
    assert plan.base.name == "base-5"
    assert plan.notes == ("timeline 1 is recovered, not the newest one (2)",)


def test_a_moment_after_a_fork_passes_it_on_the_new_branch() -> None:
    plan = decide(Wanted(time=at(22)), FORKED, BASES)
    assert (plan.timeline, plan.base.name) == (2, "base-2")
    assert [name[:8] for name in plan.segments] == ["00000001"] * 2 + ["00000002"] * 5
    assert decide(Wanted(), FORKED, BASES).timeline == 2
    assert decide(Wanted(timeline=1), FORKED, BASES).timeline == 1
    assert "has no timeline 3" in refused(Wanted(timeline=3), FORKED).message


def test_between_two_branches_the_old_one_is_recovered_to_its_end() -> None:
    plan = decide(Wanted(time=at(15)), FORKED, BASES)
    assert plan.settings["recovery_target_lsn"] == "0/900064"
    assert plan.notes[0] == "timeline 1 is recovered, not the newest one (2)"
    assert plan.notes[1].endswith("if the server had been restored by then, give --timeline 2")


def test_a_record_that_is_longer_than_segments_is_read_to_its_end() -> None:
    """The last commit is at 9.5; the record there goes on up to segment 13, and the next commit is in 14."""
    commits = [*COMMITS, commit(14.5, 14)]
    long = archive((timeline(1, commits, 20), commits))
    assert segments(decide(Wanted(time=at(8.5)), long, BASES)) == [*range(5, 15)]
    assert segments(decide(Wanted(lsn=int(9.5 * SIZE)), long, BASES)) == [*range(5, 15)]
    assert segments(decide(Wanted(time=at(7.5)), long, BASES)) == [*range(5, 10)]


def test_without_an_index_the_commits_are_looked_for_in_the_segments() -> None:
    bare = Timeline(
        1, (), tuple(one._replace(last_commit=None) for one in ONE.timelines[1].segments), 9 * SIZE
    )
    plan = decide(Wanted(time=at(4.9)), Archived(SIZE, {1: bare}, ONE.present, ONE.commits, at(9)), BASES)
    assert (plan.base.name, segments(plan)[:4]) == ("base-2", [2, 3, 4, 5])


def test_a_base_needs_its_own_wal_for_its_own_end() -> None:
    plan = at_end_of(BASES[1], ONE)
    assert plan.settings["recovery_target"] == "immediate"
    assert segments(plan) == [5]
    with pytest.raises(RefnetError, match="WAL is missing"):
        at_end_of(base(20, 21), ONE)


def test_an_hour_that_occurs_twice_or_never_needs_an_offset() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    with pytest.raises(RefnetError, match="occurs twice") as error:
        parse_moment("2026-10-25T02:30", berlin)
    assert error.value.hint == "Add the offset: 2026-10-25T02:30:00+01:00 or 2026-10-25T02:30:00+02:00."
    with pytest.raises(RefnetError, match="does not exist"):
        parse_moment("2026-03-29T02:30", berlin)
    assert shown(parse_moment("2026-10-25T02:30+02:00", berlin)) == "2026-10-25 02:30:00+02:00"
    assert shown(parse_moment("2026-10-25T03:00", berlin)) == "2026-10-25 03:00:00+01:00"
    assert shown(parse_moment("2026-07-01 14:03:07.25", berlin)) == "2026-07-01 14:03:07.250000+02:00"
    assert parse_moment("2026-11-30T14:03:07Z", None) == datetime(2026, 11, 30, 14, 3, 7, tzinfo=UTC)
