"""The moments that a form offers, in zones whose clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from refnet.core.errors import RefnetError
from refnet.web.pages.restore import Window, shown

BERLIN = ZoneInfo("Europe/Berlin")


def window(first: str, last: str) -> Window:
    return Window(*(datetime.fromisoformat(one).astimezone(UTC) for one in (first, last)), BERLIN)


#: Clocks are put back on 25 October 2026 at 03:00.
AUTUMN = window("2026-10-24T12:00:00+02:00", "2026-10-26T12:00:00+01:00")


def test_a_window_of_one_offset_has_one_and_the_fields_bounds() -> None:
    found = window("2026-11-24T12:00:00+01:00", "2026-11-26T12:00:00+01:00")
    assert found.offsets == ("+01:00",)
    assert found.bounds == ("2026-11-24T12:00:00", "2026-11-26T12:00:00")


def test_a_window_in_which_clocks_change_has_both_offsets() -> None:
    assert AUTUMN.offsets == ("+01:00", "+02:00")
    assert window("2026-01-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00").offsets == ("+01:00", "+02:00")


def test_a_moment_that_occurs_twice_needs_its_offset() -> None:
    with pytest.raises(RefnetError, match="occurs twice"):
        AUTUMN.moment("2026-10-25T02:30:00", "")
    for offset, hour in (("+02:00", 0), ("+01:00", 1)):
        found = AUTUMN.moment("2026-10-25T02:30:00", offset)
        assert found.astimezone(UTC).hour == hour
        assert shown(found) == f"2026-10-25 02:30:00{offset}"


def test_a_window_that_ends_at_an_earlier_hour_of_the_clock_than_it_begins_has_no_bounds() -> None:
    found = window("2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00")
    assert found.bounds is None
    assert found.moment("2026-10-25T02:55:00", "+02:00")


@pytest.mark.parametrize("at", ["2026-10-24T11:59:59", "2026-10-26T12:00:01", "", "x"])
def test_a_moment_outside_is_refused(at: str) -> None:
    with pytest.raises(RefnetError):
        AUTUMN.moment(at, "")


@pytest.mark.parametrize("at", ["2026-10-24T12:00:00", "2026-10-26T12:00", "2026-10-24T10:00:00+00:00"])
def test_the_first_and_the_last_moment_are_within(at: str) -> None:
    assert AUTUMN.moment(at, "")
