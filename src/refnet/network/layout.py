"""Places papers in a picture: years from left to right, similar papers beside each other. Values in, values out.

rustworkx has layouts, but none that leaves one axis to the years.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

#: SQL: the links among the papers `ids`; read by `links`.
AMONG = """
SELECT citing_id, cited_id, true FROM citations WHERE citing_id = ANY (%(ids)s) AND cited_id = ANY (%(ids)s)
UNION ALL
SELECT paper_id, other_id, false FROM related_papers WHERE paper_id = ANY (%(ids)s) AND other_id = ANY (%(ids)s)
ORDER BY 1, 2, 3
"""
#: The steps of the walk: enough for neighbours to meet, too few for a group to become one point.
_STEPS = 30


@dataclass(frozen=True)
class Links:
    """What links papers."""

    #: (citing, cited).
    citations: tuple[tuple[int, int], ...] = ()
    #: Pairs of close papers.
    close: tuple[tuple[int, int], ...] = ()


def links(rows: Iterable[tuple[int, int, bool]]) -> Links:
    """Sort the rows of AMONG."""
    found = [*rows]
    return Links(
        *(tuple((one, other) for one, other, cites in found if cites is kind) for kind in (True, False))
    )


def similar(papers: Sequence[int], links: Iterable[tuple[int, int]]) -> list[int]:
    """Order `papers` so that linked ones stand close together.

    This is the spectral order: a lazy random walk along the links, from the given order on. Links to others are ignored.
    """
    near: Mapping[int, list[int]] = {one: [] for one in papers}
    for one, other in links:
        if one != other and one in near and other in near:
            near[one].append(other)
            near[other].append(one)
    total = sum(len(others) or 1 for others in near.values()) or 1
    place = {one: float(number) for number, one in enumerate(papers)}
    for _ in range(_STEPS):
        middle = sum(place[one] * (len(others) or 1) for one, others in near.items()) / total
        place = {
            one: ((place[one] + sum(map(place.__getitem__, others)) / len(others)) / 2 if others else place[one]) - middle
            for one, others in near.items()
        }  # fmt: skip
        widest = max(map(abs, place.values()), default=0) or 1
        place = {one: at / widest for one, at in place.items()}
    return sorted(papers, key=lambda one: round(place[one], 9))  # stable: equal ones stay in the given order


def bands(years: Iterable[int | None]) -> dict[int | None, tuple[float, float]]:
    """Return begin and end of each year, from 0 to 1: its width is its share of the papers; unknown years come first."""
    known = sorted(years, key=lambda year: year or 0)
    found, begin = {}, 0.0
    for year, same in groupby(known):
        end = begin + sum(1 for _ in same) / len(known)
        found[year] = (begin, end)
        begin = end
    return found
