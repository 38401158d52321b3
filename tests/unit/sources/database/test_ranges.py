"""The ranges of a table: their pages do not depend on how long it is or who copies them."""

from __future__ import annotations

import pytest

from refnet.sources.database.dump.ranges import ranges
from refnet.sources.database.dump.snapshot import DumpedRelation

_PAGE = 8192
_MB = 1 << 20


def conditions(pages: int, size: int) -> list[str]:
    relation = DumpedRelation(1, "s", "t", "r", "p", True, size, pages)
    found = ranges(relation)
    assert sum(one.size for one in found) <= size
    return [one.where.decode() for one in found]


@pytest.mark.parametrize("pages", [1, 128, 1000, 40_000, 400_000])
def test_a_table_that_grows_keeps_all_ranges_but_the_last(pages: int) -> None:
    before = conditions(pages, pages * _PAGE)
    more = pages + pages // 100 + 1
    after = conditions(more, more * _PAGE + 40_000)
    assert after[: len(before) - 1] == before[:-1]


def test_a_range_has_four_megabytes_of_pages() -> None:
    assert conditions(1200, 1200 * _PAGE) == [
        "ctid >= '(0,0)' AND ctid < '(512,0)'",
        "ctid >= '(512,0)' AND ctid < '(1024,0)'",
        "ctid >= '(1024,0)'",
    ]


def test_values_in_toast_count() -> None:
    assert conditions(8, 32 * _MB) == conditions(8, 34 * _MB)
    assert len(conditions(8, 8 * _MB)) == 2
    assert conditions(2, 16 * _MB) == [
        "ctid >= '(0,0)' AND ctid < '(0,64)'",
        "ctid >= '(0,64)' AND ctid < '(1,0)'",
        "ctid >= '(1,0)' AND ctid < '(1,64)'",
        "ctid >= '(1,64)'",
    ]


def test_a_table_without_pages_is_one_range() -> None:
    assert conditions(0, _MB) == ["ctid >= '(0,0)'"]


def test_a_very_large_table_has_larger_ranges() -> None:
    pages = (1 << 40) // _PAGE
    assert len(conditions(pages, 1 << 40)) == 4096
