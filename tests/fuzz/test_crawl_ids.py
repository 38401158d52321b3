"""Ids of papers that a person gives."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import bounded, fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.network.crawls import seed_id

_FORMS = st.sampled_from(["DOI:", "arXiv:", "CorpusId:", "MAG:", "ACL:", "PMID:", "PMCID:", "URL:", "https://doi.org/", "10.1/", "HTTP://", ""])  # fmt: skip


@fuzzed
@given(st.builds("{}{}".format, _FORMS, texts))
@example("10." + "1" * 100_000 + "/x")
@example("a" * 40 + ":" * 100_000)
def test_an_id_is_one_line_in_a_form_that_the_api_accepts_or_refused(text: str) -> None:
    with bounded():
        found = outcome(lambda: seed_id(text))
    if found is not None:
        assert found.isprintable()
        assert " " not in found
        assert seed_id(found) == found
