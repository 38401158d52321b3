"""Where papers stand in pictures: similar ones together, years from left to right."""

from __future__ import annotations

import time
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from refnet.network.layout import Links, bands, links, similar

_PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)))


def test_two_groups_stand_apart_and_each_together() -> None:
    odd, even = [*range(1, 20, 2)], [*range(0, 20, 2)]
    groups = [*combinations(odd, 2), *combinations(even, 2)]

    found = similar([*range(20)], [*groups, (1, 2)])

    kinds = [one % 2 for one in found]
    assert sum(a != b for a, b in pairwise(kinds)) == 1


@given(st.lists(st.integers(0, 30), unique=True), _PAIRS)
def test_every_paper_has_one_place_whatever_the_links_are(
    papers: list[int], pairs: list[tuple[int, int]]
) -> None:
    found = similar(papers, pairs)

    assert sorted(found) == sorted(papers)
    assert similar(papers, pairs) == found


@given(st.lists(st.none() | st.integers(1000, 2999)))
def test_the_bands_of_the_years_fill_the_width_in_order(years: list[int | None]) -> None:
    found = bands(years)

    assert {*found} == {*years}
    assert [*found] == sorted(found, key=lambda year: year or 0)
    edges = [0.0, *(edge for band in found.values() for edge in band), 1.0]
    assert all(abs(a - b) < 1e-9 for a, b in [*zip(edges[::2], edges[1::2], strict=True)] if years)


def test_links_are_sorted_by_what_they_are() -> None:
    assert links([(1, 2, True), (1, 3, False), (3, 1, True)]) == Links(((1, 2), (3, 1)), ((1, 3),))


def test_a_thousand_papers_are_placed_in_a_moment() -> None:
    pairs = [(one, one * 7 % 1000) for one in range(1000)] * 3 + [(one, one // 2) for one in range(1000)]
    begun = time.process_time()
    similar([*range(1000)], pairs)
    assert time.process_time() - begun < 1
