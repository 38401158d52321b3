"""The schedule: read, written for crontab and systemd, and what is due next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.catalog.schedule import TaskName, When
from refnet.core.errors import Exit, RefnetError
from refnet.scheduling.beat import ENTRIES, beat_schedule
from refnet.settings import load
from refnet.settings.converters import InvalidError
from refnet.settings.times import parse_schedule, parse_when

TOKYO = ZoneInfo("Asia/Tokyo")
BERLIN = ZoneInfo("Europe/Berlin")

WHENS = st.one_of(
    st.builds(When, st.integers(0, 59)),
    st.builds(When, st.integers(0, 59), st.integers(0, 23)),
    st.builds(When, st.integers(0, 59), st.integers(0, 23), weekday=st.integers(0, 6)),
    st.builds(When, st.integers(0, 59), st.integers(0, 23), day=st.integers(1, 28)),
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


def settings(folder: Path, **environment: str):
    return load(
        {"REFNET_HOME": str(folder)} | {f"REFNET_SCHEDULE_{k}": v for k, v in environment.items()},
        folder,
        root=False,
        cores=2,
    )


def test_the_defaults_are_the_times_of_the_specification(tmp_path):
    schedule = settings(tmp_path).schedule
    assert schedule.times[TaskName.DATABASE].crontab() == {"hour": 2, "minute": 0}
    assert schedule.times[TaskName.CONFIG].crontab() == {"day_of_week": 0, "hour": 3, "minute": 0}
    assert schedule.times[TaskName.OBSIDIAN].crontab() == {"hour": 1, "minute": 0}
    assert schedule.times[TaskName.MONITOR].interval == timedelta(hours=1)
    assert schedule.times[TaskName.DRILL].interval == timedelta(days=31)


@pytest.mark.parametrize(
    ("text", "when", "calendar"),
    [
        ("hourly :45", When(45), "*-*-* *:45:00"),
        ("daily 02:00", When(0, 2), "*-*-* 02:00:00"),
        ("Sunday 3:05", When(5, 3, weekday=0), "Sun *-*-* 03:05:00"),
        ("saturday 23:59", When(59, 23, weekday=6), "Sat *-*-* 23:59:00"),
        ("  monthly  28  05:00 ", When(0, 5, day=28), "*-*-28 05:00:00"),
    ],
)
def test_a_time_is_read_and_written_for_systemd(text, when, calendar):
    assert parse_when(text) == when
    assert when.on_calendar(None) == calendar
    assert when.on_calendar(TOKYO) == f"{calendar} Asia/Tokyo"


@given(WHENS)
def test_what_is_written_is_read_back(when):
    assert parse_when(str(when)) == when


@pytest.mark.parametrize(
    "text",
    [
        "02:00", "daily", "daily 24:00", "daily 02:60", "daily 2", "someday 02:00", "monthly 05:00", "monthly 0 05:00",
        "monthly 29 05:00", "hourly 02:00", "daily :30", "daily 3 02:00", "sunday 1 03:00", "0 2 * * *", "", "daily 02:00\nx",
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_read_is_refused(text):
    with pytest.raises(InvalidError):
        parse_when(text)


def test_a_schedule_that_cannot_be_read_names_its_key(tmp_path):
    with pytest.raises(RefnetError, match=r"^REFNET_SCHEDULE_CONFIG = ") as caught:
        settings(tmp_path, CONFIG="weekly")
    assert caught.value.code is Exit.USAGE
    with pytest.raises(RefnetError, match=r'^REFNET_SCHEDULE_TIMEZONE = "Mars/Olympus"'):
        settings(tmp_path, TIMEZONE="Mars/Olympus")


@pytest.mark.parametrize(
    ("text", "zone", "now", "due"),
    [
        ("daily 02:00", TOKYO, "2026-11-25T16:59+00:00", "2026-11-25T17:00+00:00"),
        ("daily 02:00", TOKYO, "2026-11-25T17:00+00:00", "2026-11-26T17:00+00:00"),
        ("sunday 03:00", TOKYO, "2026-11-25T00:00+00:00", "2026-11-28T18:00+00:00"),
        ("monthly 1 05:00", TOKYO, "2026-12-31T20:00+00:00", "2027-01-31T20:00+00:00"),
        ("hourly :45", TOKYO, "2026-11-25T00:44:59+00:00", "2026-11-25T00:45+00:00"),
        ("hourly :45", ZoneInfo("Asia/Kathmandu"), "2026-11-25T00:00+00:00", "2026-11-25T01:00+00:00"),
        # Berlin, 29 March 2026: 02:00 to 03:00 is left out; 25 October 2026: it comes twice.
        ("daily 02:30", BERLIN, "2026-03-28T12:00+00:00", "2026-03-29T01:30+00:00"),
        ("daily 02:30", BERLIN, "2026-10-24T12:00+00:00", "2026-10-25T00:30+00:00"),
        ("daily 02:30", BERLIN, "2026-10-25T00:45+00:00", "2026-10-26T01:30+00:00"),
    ],
)
def test_next_due(text, zone, now, due):
    found = parse_when(text).next_due(datetime.fromisoformat(now), zone)
    assert found == datetime.fromisoformat(due)


@given(WHENS, MOMENTS, st.sampled_from([None, TOKYO, BERLIN, ZoneInfo("America/St_Johns")]))
def test_the_next_run_is_ahead_and_no_farther_than_the_interval(when, now, zone):
    due = when.next_due(now, zone)
    assert now < due <= now + when.interval + timedelta(hours=2)


def test_a_task_that_is_off_is_in_no_schedule(tmp_path):
    schedule = settings(tmp_path, DRILL="off", CONFIG=" OFF ", UPDATE="monday 07:00").schedule
    off = {TaskName.DRILL, TaskName.CONFIG}
    assert {*schedule.times} == {*TaskName} - off
    assert {schedule.next_due(task, datetime.now(UTC)) for task in off} == {None}
    assert {schedule.interval(task) for task in off} == {None}
    assert {*beat_schedule(schedule)} == {name for task, (name, _, _) in ENTRIES.items() if task not in off}


def test_an_update_that_nobody_set_is_no_task(tmp_path):
    schedule = settings(tmp_path).schedule
    assert TaskName.UPDATE not in {*schedule.times, *schedule.off}
    assert TaskName.UPDATE in settings(tmp_path, UPDATE="off").schedule.off


def test_a_mistyped_off_is_answered_with_it():
    with pytest.raises(InvalidError) as caught:
        parse_schedule("offf")
    assert caught.value.near == "off"
