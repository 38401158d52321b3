"""A table cut into ranges of its pages, so that several workers can read it at once."""

from __future__ import annotations


def page_ranges(pages: int, count: int) -> list[bytes]:
    """Return `count` conditions on ctid that cut a table of `pages` pages; the last range has no end."""
    cuts = [pages * number // count for number in range(count)]
    ends = [b" AND ctid < '(%d,0)'" % end for end in cuts[1:]]
    return [b"ctid >= '(%d,0)'%b" % (first, end) for first, end in zip(cuts, [*ends, b""], strict=True)]
