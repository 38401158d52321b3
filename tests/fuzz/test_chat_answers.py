"""Answers of models, and abstracts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.network.summary_writers import LONGEST, NotSummaryError, Summary, extract, read

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "content"]), inner)
    ),
    max_leaves=8,
)
_TEXTS = texts | st.lists(st.sampled_from(["citations", "[[", "%%", "<", "\n", "a. B", "`"])).map(" ".join)
_ANSWERS = st.one_of(
    _VALUES,
    st.fixed_dictionaries({"choices": _VALUES, "usage": _VALUES}),
    st.builds(lambda text: {"choices": [{"message": {"content": text}}]}, _TEXTS),
)


@fuzzed
@given(_ANSWERS, texts)
def test_an_answer_is_a_plain_line_or_a_reason(answer: object, paper: str) -> None:
    with bounded():
        found = outcome(lambda: read(answer, paper), NotSummaryError)
    if isinstance(found, Summary):
        assert 0 < len(found.text) <= LONGEST
        assert not any(sign in found.text for sign in ("%%", "[", "]", "\n", "\0", "`"))


@fuzzed
@given(st.one_of(_TEXTS, texts.map(lambda text: text * 200)))
def test_an_extract_is_a_part_of_its_abstract(abstract: str) -> None:
    with bounded():
        found = extract(abstract)
    assert len(found) <= LONGEST
    assert set(found) <= set(abstract) | {" ", "…"}
