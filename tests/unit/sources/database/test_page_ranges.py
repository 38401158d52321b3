"""A table is cut into ranges of pages, and a table of few pages within them: each row is in one range."""

from __future__ import annotations

import itertools
import re

import pytest

from refnet.sources.database.dump.ranges import ranges
from refnet.sources.database.dump.snapshot import DumpedRelation
from refnet.sources.database.rows.live_catalog import page_ranges

_RANGE = re.compile(rb"ctid >= '\((\d+),(\d+)\)'(?: AND ctid < '\((\d+),(\d+)\)')?")
MB = 1 << 20
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
