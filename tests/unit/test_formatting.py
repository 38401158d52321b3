"""How spans of time read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from refnet.core.formatting import old


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=5), "under 1 min old"),
        (timedelta(days=17), "17 d old"),
        (timedelta(days=-17), "17 d ahead of this clock"),
    ],
)
def test_an_age_is_told_from_a_date_that_the_clock_has_not_reached(span: timedelta, text: str) -> None:
    assert old(span) == text
