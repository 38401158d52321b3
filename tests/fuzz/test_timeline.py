"""Query parameters of the timeline and of the list of runs: a value or one clear error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome

from refnet.catalog.calendar import Calendar, Expected
from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.web.pages.runs import RunQuery
from refnet.web.pages.timeline import COUNTS, TimelineQuery, moved

_VALUES = (
    st.text() | st.dates().map(str) | st.dates().map(lambda day: f"{day:%Y-%m}") | st.integers().map(str)
)


@given(st.dictionaries(st.sampled_from(["source", "store", "month", "day", "months", "x"]), _VALUES))
@fuzzed
def test_query_parameters(given_: dict[str, str]) -> None:
    asked = outcome(lambda: TimelineQuery.of(given_), RefnetError, longest=20_000)
    if asked is not None:
        assert asked.count in COUNTS
        calendar = Calendar.of((), Expected(None, None), utc_now())
        shown = calendar.months(asked.month or calendar.today, asked.count)
        assert shown
        assert all(moved(month.first, count).day == 1 for month in shown for count in (-12, 12))


@given(
    st.dictionaries(
        st.sampled_from(["source", "kind", "outcome", "by", "since", "until", "page", "x"]), _VALUES
    )
)
@fuzzed
def test_query_parameters_of_runs(given_: dict[str, str]) -> None:
    asked = outcome(lambda: RunQuery.of(given_), RefnetError, longest=20_000)
    if asked is not None:
        assert asked.page > 0
        assert asked.link(2).startswith("/runs?")
