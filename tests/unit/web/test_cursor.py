"""The cursor of a list: it comes back as it was made, and nothing else is taken for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.errors import RefnetError
from refnet.web.cursor import Place, parse

PLACES = st.builds(Place, st.integers(-1, 2**31 - 1), st.integers(1, 2**63 - 1))


@given(PLACES, st.text())
def test_a_place_comes_back_as_it_was(place, of):
    assert parse(place.text(of), of) == place


@given(PLACES, st.text(), st.data())
def test_a_changed_cursor_is_not_the_same_place(place, of, data):
    text = place.text(of)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("AQgw_-.= é\x00").filter(lambda one: one != text[at]))
    changed = text[:at] + other + text[at + 1 :]
    found = None
    with suppress(RefnetError):
        found = parse(changed, of)
    assert found != place  # its numbers may differ: they are only a place to begin


@pytest.mark.parametrize(
    "change", [lambda text: text + "A", lambda text: text[:-1], lambda text: text + "=", lambda _: ""]
)
def test_a_cursor_of_another_length_is_refused(change):
    with pytest.raises(RefnetError, match="cursor: not a place in this list"):
        parse(change(Place(1, 2).text("")), "")
