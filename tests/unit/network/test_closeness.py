"""PageRank, co-citation and coupling beside computations of their own, which follow the definitions word for word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from random import Random

import numpy as np
import pytest

from refnet.network import rank
from refnet.network.rank import Closest, Graph, too_long

Edges = set[tuple[int, int]]


def made(papers: int, citations: int, seed: int) -> Edges:
    """Citations of earlier papers, some of them of later ones, so that there are cycles."""
    random = Random(seed)
    edges: Edges = set()
    while len(edges) < citations:
        citing, cited = random.randrange(papers), int(papers * random.random() ** 2)
        if citing != cited:
            edges.add((citing, cited))
    return edges


def graph(edges: Edges, papers: int) -> Graph:
    rows = sorted(edges)
    citing, cited = (np.array([row[end] for row in rows], dtype=np.int64) for end in (0, 1))
    return Graph.of(citing, cited, papers)


def pagerank(edges: Edges, papers: int) -> list[float]:
    """Of each paper: a share of all ranks, and of those that cite it; who cites nothing gives to all the same."""
    cites = {one: [cited for citing, cited in edges if citing == one] for one in range(papers)}
    ranks = [1 / papers] * papers
    for _ in range(300):
        lost = sum(ranks[one] for one in range(papers) if not cites[one])
        given = [0.15 / papers + 0.85 * lost / papers] * papers
        for one, others in cites.items():
            for other in others:
                given[other] += 0.85 * ranks[one] / len(others)
        ranks = given
    return ranks


def pairs(edges: Edges, *, by: int, most: int = 10**9) -> Counter[tuple[int, int]]:
    """How many papers share each pair: 0: cite both; 1: are cited by both. Longer lists than `most` do not count."""
    lists: dict[int, list[int]] = {}
    for edge in edges:
        lists.setdefault(edge[by], []).append(edge[1 - by])
    found = Counter(
        pair for one in lists.values() if len(one) <= most for pair in combinations(sorted(one), 2)
    )
    return found + Counter({(other, one): count for (one, other), count in found.items()})


def closest(found: Counter[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """The closest papers of each: strength and number; the rule of those that share one paper only."""
    result: dict[int, list[tuple[int, int]]] = {}
    for (one, other), strength in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        there = result.setdefault(one, [])
        weak = strength == 1 and ((there and there[0][1] > 1) or len(there) >= rank.WEAKEST)
        if len(there) < rank.CLOSEST and not weak:
            there.append((other, strength))
    return result


def listed(parts: Iterator[Closest]) -> dict[int, list[tuple[int, int]]]:
    result: dict[int, list[tuple[int, int]]] = {}
    for part in parts:
        columns = (part.papers.tolist(), part.others.tolist(), part.strengths.tolist())
        for one, other, strength in zip(*columns, strict=True):
            result.setdefault(one, []).append((other, strength))
    return result


@pytest.mark.parametrize(("papers", "citations", "seed"), [(1, 0, 1), (2, 1, 1), (7, 20, 2), (60, 400, 3)])
def test_ranks_and_closest_papers_are_those_of_the_definitions(
    papers: int, citations: int, seed: int
) -> None:
    edges = made(papers, citations, seed)
    one = graph(edges, papers)
    assert one.pageranks() == pytest.approx(pagerank(edges, papers), rel=1e-6)
    assert sum(one.pageranks()) == pytest.approx(1, abs=1e-6)
    assert listed(one.co_cited()) == closest(pairs(edges, by=0))
    assert listed(one.coupled()) == closest(pairs(edges, by=1))


def test_small_blocks_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = made(60, 400, 4)
    one = graph(edges, 60)
    at_once = listed(one.co_cited()), listed(one.coupled()), one.pageranks()
    monkeypatch.setattr(rank, "_BLOCK", 7)
    assert (listed(one.co_cited()), listed(one.coupled()), one.pageranks()) == at_once
    assert [part.done for part in one.coupled()][-1] == 60


def test_long_lists_do_not_count_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = made(40, 300, 5)
    monkeypatch.setattr(rank, "MOST", 9)
    one = graph(edges, 40)
    assert listed(one.co_cited()) == closest(pairs(edges, by=0, most=9))
    assert listed(one.coupled()) == closest(pairs(edges, by=1, most=9))
    for lists, end in ((one.cites, 0), (one.cited_by, 1)):
        assert too_long(lists) == sum(count > 9 for count in Counter(edge[end] for edge in edges).values())
        assert too_long(lists) > 0


def test_one_shared_paper_counts_only_where_nothing_closer_is_known() -> None:
    papers = {"both": (0, 1, 2), "again": (0, 1)}
    edges = {(10 + number, cited) for number, cites in enumerate(papers.values()) for cited in cites}
    found = listed(graph(edges, 12).co_cited())
    assert found[0] == [(1, 2)]
    assert found[2] == [(0, 1), (1, 1)]


def test_a_graph_without_papers_has_nothing() -> None:
    empty = graph(set(), 0)
    assert (empty.pageranks(), listed(empty.co_cited()), listed(empty.coupled())) == ([], {}, {})


def test_a_paper_that_everyone_cites_is_bounded_in_time_and_memory() -> None:
    """20,000 citations of one paper are 200 million pairs."""
    hub = graph({(citing, 0) for citing in range(1, 20_001)}, 20_001)
    assert listed(hub.coupled()) == {}
    assert too_long(hub.cited_by) == 1
