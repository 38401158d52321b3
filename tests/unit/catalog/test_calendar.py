"""The calendar of artifacts: the best evidence of each day, and the days that the schedule expected and nobody made."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.catalog.calendar import Calendar, Day, Empty, Expected
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.settings.times import parse_when

TOKYO, BERLIN = ZoneInfo("Asia/Tokyo"), ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


def entry(created: datetime, *checks: tuple[Level, Outcome]) -> Entry:
    manifest = Manifest(
        SourceName.DATABASE, f"refnet_{created:%Y%m%d_%H%M%S}.sql.gz", created, 5, "a" * 64, 1.0
    )
    return Entry(manifest, tuple(Evidence(created, level, outcome, 1.0) for level, outcome in checks))


def at(*days: str) -> list[Entry]:
    return [entry(datetime.fromisoformat(day).replace(tzinfo=UTC)) for day in days]


def days(
    entries: list[Entry], when: str, *, now: datetime = NOW, zone: ZoneInfo | None = UTC, kept: Retention | None = None
) -> dict[date, Day]:  # fmt: skip
    expected = Expected(parse_when(when) if when else None, zone, kept)
    shown = Calendar.of(entries, expected, now).months(now.astimezone(zone).date(), 3)
    return {day.date: day for month in shown for week in month.weeks for day in week if day}


def missed(entries: list[Entry], when: str, **more: object) -> list[str]:
    return sorted(f"{d:%m-%d}" for d, day in days(entries, when, **more).items() if day.empty is Empty.MISSED)  # type: ignore[arg-type]


def test_a_day_without_the_artifact_that_was_expected_is_missed():
    assert missed(at("2026-11-20T02:00", "2026-11-22T02:00", "2026-11-26T02:00"), "daily 02:00") == [
        "11-21", "11-23", "11-24", "11-25", "11-27",
    ]  # fmt: skip


def test_today_and_days_before_the_first_artifact_are_not_missed():
    assert missed(at("2026-11-27T02:00"), "daily 00:10") == []
    assert missed([], "daily 02:00") == []


def test_a_weekly_or_monthly_schedule_expects_its_day_alone():
    assert missed(at("2026-11-01T03:00"), "sunday 03:00") == ["11-08", "11-15", "11-22"]
    assert missed(at("2026-09-05T03:00"), "monthly 5 03:00") == ["10-05", "11-05"]


def test_a_source_that_is_switched_off_misses_no_day():
    assert missed(at("2026-11-01T03:00"), "") == []


def test_an_hourly_schedule_expects_every_day():
    assert missed(at("2026-11-24T03:45", "2026-11-26T00:45"), "hourly :45") == ["11-25", "11-27"]


def test_the_day_is_that_of_the_time_zone_of_the_schedule():
    entries = at("2026-11-24T17:00", "2026-11-25T17:00")  # 02:00 of the next day in Tokyo
    assert [d.day for d, day in days(entries, "daily 02:00", zone=TOKYO).items() if day.entries] == [25, 26]
    assert missed(entries, "daily 02:00", zone=TOKYO) == ["11-27"]


def test_a_run_that_was_late_after_midnight_counts_for_its_day():
    entries = at("2026-11-24T23:30", "2026-11-26T00:20", "2026-11-26T23:30")
    assert missed(entries, "daily 23:30") == []  # the 27th may still be late: it is 01:00
    assert missed(entries, "daily 23:30", now=NOW + timedelta(hours=1)) == ["11-27"]


@pytest.mark.parametrize(("now", "change"), [("2026-04-02", "2026-03-29"), ("2026-10-28", "2026-10-25")])
def test_a_day_of_23_or_25_hours_is_one_day(now: str, change: str):
    """The clocks change at 02:00 or 03:00; the time of the schedule does not exist then, or twice."""
    changed = datetime.fromisoformat(f"{change}T01:00").replace(tzinfo=UTC)
    there = [changed - timedelta(days=1), changed + timedelta(days=1)]
    moment = datetime.fromisoformat(f"{now}T00:00").replace(tzinfo=UTC)
    assert missed([entry(one) for one in there], "daily 02:30", now=moment, zone=BERLIN)[0] == change[5:]
    assert change[5:] not in missed(
        [entry(one) for one in (*there, changed)], "daily 02:30", now=moment, zone=BERLIN
    )


def test_days_that_retention_has_thinned_out_are_not_missed():
    entries = at("2026-10-01T02:00", "2026-11-01T02:00", "2026-11-25T02:00")
    assert missed(entries, "daily 02:00", kept=Retention(days=3, weekly=9)) == ["11-26", "11-27"]
    assert missed(entries, "daily 02:00", kept=Retention(days=1, daily=5)) == ["11-24", "11-26", "11-27"]
    assert days(entries, "daily 02:00", kept=Retention(days=3))[date(2026, 10, 15)].empty is Empty.THINNED


def test_the_state_of_a_day_is_its_best_and_the_damaged_ones_are_counted():
    moment = datetime(2026, 11, 25, 2, tzinfo=UTC)
    proven = entry(moment, (Level.PROVEN, Outcome.PASSED))
    damaged = entry(moment + timedelta(hours=1), (Level.INTACT, Outcome.FAILED))
    [day] = [one for one in days([damaged, proven], "daily 02:00").values() if one.entries]
    assert (day.state, day.damaged, day.entries) == ("proven", 1, (proven, damaged))
    [day] = [one for one in days([damaged], "daily 02:00").values() if one.entries]
    assert (day.state, day.damaged) == ("damaged", 1)


def test_months_are_whole_weeks_from_the_newest_on():
    shown = Calendar.of([], Expected(None, UTC), NOW).months(date(2026, 3, 31), 3)
    assert [month.first for month in shown] == [date(2026, 3, 1), date(2026, 2, 1), date(2026, 1, 1)]
    assert [len(month.weeks) for month in shown] == [6, 5, 5]
    assert all(len(week) == 7 for month in shown for week in month.weeks)
    assert sum(day is not None for week in shown[1].weeks for day in week) == 28


def test_the_first_and_the_last_month_of_the_calendar_are_shown():
    assert [m.first.year for m in Calendar.of([], Expected(None, UTC), NOW).months(date(1, 2, 1), 12)] == [
        1,
        1,
    ]
    assert (
        Calendar.of([], Expected(parse_when("daily 02:00"), UTC), NOW).months(date(9999, 12, 1), 1)[0].weeks
    )


@given(st.lists(MOMENTS, max_size=20), MOMENTS, st.sampled_from([TOKYO, BERLIN, None]), st.integers(1, 12))
def test_each_day_and_each_artifact_of_the_months_is_shown_once(
    moments: list[datetime], now: datetime, zone: ZoneInfo | None, count: int
):
    entries, last = [entry(one) for one in moments], now.astimezone(zone).date()
    shown = Calendar.of(entries, Expected(parse_when("sunday 02:30"), zone), now).months(last, count)
    found = [day for month in shown for week in month.weeks for day in week if day]
    assert len({day.date for day in found}) == len(found)
    first, end = shown[-1].first, max(day.date for day in found)
    inside = [e for e in entries if first <= e.created.astimezone(zone).date() <= end]
    assert sorted(e.name for day in found for e in day.entries) == sorted(e.name for e in inside)
    assert all(day.date.isoweekday() == 7 and day.date < last for day in found if day.empty is Empty.MISSED)
