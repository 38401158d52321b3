"""A table is cut into ranges of pages, and one of few pages within them; they depend on neither its length nor the workers."""

from __future__ import annotations

import itertools
import re

import pytest

from refnet.sources.database.dump.row_copy import ranges
from refnet.sources.database.dump.snapshot import DumpedRelation
from refnet.sources.database.rows.live_catalog import page_ranges

_RANGE = re.compile(rb"ctid >= '\((\d+),(\d+)\)'(?: AND ctid < '\((\d+),(\d+)\)')?")
MB = 1 << 20
PAGE = 8192
Place = tuple[int, int]


def cut(conditions: list[bytes]) -> list[tuple[Place, Place]]:
    """Return the first place of each range, and the place after its last."""
    found = [_RANGE.fullmatch(condition) for condition in conditions]
    numbers = [[int(n) if n else 1 << 32 for n in one.groups()] for one in found if one]
    return [((a, b), (c, d)) for a, b, c, d in numbers]


@pytest.mark.parametrize(
    ("pages", "count"), [(1, 1), (1, 8), (2, 3), (3, 20), (12, 8), (12, 12), (12, 96), (1000, 7)]
)
def test_the_ranges_follow_each_other_without_gaps(pages: int, count: int) -> None:
    found = cut(page_ranges(pages, count))
    assert len(found) == count
    assert found[0][0] == (0, 0)
    assert found[-1][1] == (1 << 32, 1 << 32)
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(found))
    assert all(begin < end for begin, end in found)


def relation(size: int, pages: int) -> DumpedRelation:
    return DumpedRelation(1, "public", "blobs", "r", "p", True, size, pages)


@pytest.mark.parametrize(
    ("size", "pages", "count"),
    [(3 * MB, 400, 1), (40 * MB, 5120, 10), (160 * MB, 12, 48), (160 * MB, 1, 8), (3200 * MB, 20, 160)],
)
def test_each_worker_gets_ranges_of_one_table(size: int, pages: int, count: int) -> None:
    assert len(ranges(relation(size, pages))) == count


def conditions(pages: int, size: int) -> list[str]:
    found = ranges(relation(size, pages))
    assert sum(one.size for one in found) <= size
    return [one.where.decode() for one in found]


@pytest.mark.parametrize("pages", [1, 128, 1000, 40_000, 400_000])
def test_a_table_that_grows_keeps_all_ranges_but_the_last(pages: int) -> None:
    before = conditions(pages, pages * PAGE)
    more = pages + pages // 100 + 1
    after = conditions(more, more * PAGE + 40_000)
    assert after[: len(before) - 1] == before[:-1]


def test_a_range_has_four_megabytes_of_pages() -> None:
    assert conditions(1200, 1200 * PAGE) == [
        "ctid >= '(0,0)' AND ctid < '(512,0)'",
        "ctid >= '(512,0)' AND ctid < '(1024,0)'",
        "ctid >= '(1024,0)'",
    ]


def test_values_in_toast_count() -> None:
    assert conditions(8, 32 * MB) == conditions(8, 34 * MB)
    assert len(conditions(8, 8 * MB)) == 2
    assert conditions(2, 16 * MB) == [
        "ctid >= '(0,0)' AND ctid < '(0,64)'",
        "ctid >= '(0,64)' AND ctid < '(1,0)'",
        "ctid >= '(1,0)' AND ctid < '(1,64)'",
        "ctid >= '(1,64)'",
    ]


def test_a_table_without_pages_is_one_range() -> None:
    assert conditions(0, MB) == ["ctid >= '(0,0)'"]


def test_a_very_large_table_has_larger_ranges() -> None:
    pages = (1 << 40) // PAGE
    assert len(conditions(pages, 1 << 40)) == 4096
