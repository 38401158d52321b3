"""Query parameters of the web API: a value or one clear error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.fuzz.harness import fuzzed, outcome

from refnet.web import papers

_NAMES = [*papers.Listed.model_fields, "x"]


@given(
    st.dictionaries(
        st.sampled_from(_NAMES),
        st.text() | st.integers().map(str) | st.sampled_from(["true", "1e9", "-1.7", "12.345"]),
    )
)
@fuzzed
def test_query_parameters(given_: dict[str, str]) -> None:
    asked = outcome(lambda: papers.Listed.model_validate(given_), ValidationError, longest=20_000)
    if asked is not None:
        assert 1 <= asked.limit <= papers.MOST
        values = [value for value in asked.filters.values() if isinstance(value, str)]
        assert not any("\x00" in value for value in values)
        query = papers._list(asked.filters, after=asked.cursor is not None)
        assert not any(len(value) > 12 and value in query for value in values)
