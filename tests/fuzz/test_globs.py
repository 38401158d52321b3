"""Patterns that people type, and names that attackers choose: an answer in bounded time, and the right one."""

from __future__ import annotations

from functools import cache

from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import texts

from refnet.core.glob import Glob, TableGlob

_PARTS = st.lists(st.sampled_from(["*", "**", "?", "a", "b", "/", "/", "."]), min_size=1, max_size=14).map(
    "".join
)
_PATHS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=6).map("/".join)


def _expected(pattern: str, path: str) -> bool:
    """The same answer from the definition: every way is tried."""
    wanted = [part for part in pattern.split("/") if part not in {"", "."}]
    parts = path.split("/") if "/" in pattern else [path.rpartition("/")[2]]

    @cache
    def part(glob: str, name: str) -> bool:
        if not glob:
            return not name
        if glob[0] == "*":
            return part(glob[1:], name) or (name != "" and part(glob, name[1:]))
        return name != "" and glob[0] in {"?", name[0]} and part(glob[1:], name[1:])

    @cache
    def whole(at: int, now: int) -> bool:
        if at == len(wanted):
            return now == len(parts)
        if wanted[at] == "**":
            return whole(at + 1, now) or (now < len(parts) and whole(at, now + 1))
        return now < len(parts) and part(wanted[at], parts[now]) and whole(at + 1, now + 1)

    return whole(0, 0)


@fuzzed
@given(_PARTS, _PATHS)
def test_a_pattern_matches_what_its_definition_says(pattern: str, path: str) -> None:
    assert Glob(pattern).matches(path) is _expected(pattern, path)


@fuzzed
@given(texts, texts)
@example("*a" * 499, "a" * 4090 + "b")
@example("*?" * 499, "a" * 200)
@example("*" + "?" * 900 + "b", "a" * 4090)
@example("/".join(["**", "a"] * 200), "/".join(["a"] * 2000) + "/b")
@example("**/" + "a/" * 400 + "b", "a/" * 2000 + "c")
@example("[" * 999, "[")
@example("[!" * 499 + "]", "a" * 4090)
def test_a_pattern_is_read_or_refused_and_never_hangs(pattern: str, path: str) -> None:
    found = outcome(lambda: Glob(pattern))
    if found:
        outcome(lambda: found.matches(path))
    table = outcome(lambda: TableGlob(pattern))
    if table:
        outcome(lambda: table.matches("public", path))
