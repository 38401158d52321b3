"""Rules of exclude, and the names that they are matched with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import LONGEST, assert_told, fuzzed
from tests.fuzz.strategies import texts

from refnet.settings.converters import InvalidError
from refnet.settings.sources import exclude_rules, matcher

_RULE = st.one_of(texts, st.text("*?[]!/\\ab.-#^", max_size=40))


@fuzzed
@given(found=st.lists(_RULE, max_size=4), path=st.one_of(texts, st.text("ab/.\n", max_size=300)))
def test_rules_are_matched_or_refused(found: list[str], path: str) -> None:
    try:
        checked = exclude_rules(found)
    except InvalidError as error:
        assert_told(f"{error.rule} {error.usage}", LONGEST)
    else:
        assert matcher(checked)(path) in {True, False}
