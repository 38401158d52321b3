"""The text of pg_dumpall in an artifact: each statement that is read is one that pg_dumpall writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import texts
from tests.unit.catalog.test_globals import TEXT

from refnet.sources.roles.global_statements import NotGlobalsError, read
from refnet.sources.roles.globals_plan import LiveRoles, WantedRoles, decide

WORDS = [*TEXT.split(), "'", '"', "E'", "\\", "--", "/*", "$$", ";", "DROP", "SELECT", "U&'a'"]


@fuzzed
@given(st.lists(st.one_of(st.sampled_from(WORDS), texts), max_size=40).map(" ".join))
def test_roles_are_read_or_refused(text: str) -> None:
    found = outcome(lambda: tuple(read(text)), NotGlobalsError)
    for one in found or ():
        assert tuple(read(f"{one.sql};")) == (one,)
    if found:
        decide(WantedRoles("a", "", found), LiveRoles("b", found[: len(found) // 2]))


@fuzzed
@given(st.integers(0, len(TEXT) - 1), texts, st.integers(0, 20))
def test_a_damaged_text_is_read_or_refused(at: int, piece: str, cut: int) -> None:
    outcome(lambda: tuple(read(TEXT[:at] + piece + TEXT[at + cut :])), NotGlobalsError)
