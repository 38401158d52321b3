"""PageRank, co-citation and bibliographic coupling of a citation graph. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.core.extras import needed

with needed("network"):
    import numpy as np
    import rustworkx

#: The most close papers kept of each paper; and if none shares more than one other paper with it.
CLOSEST, WEAKEST = 10, 3
#: Papers with more references do not count for co-citation, papers with more citations not for coupling: two entries
#: of a long list have little in common, and the number of pairs grows with the square of its length.
MOST = 200
#: The number of pairs counted at once; bounds the memory, at about 60 bytes per pair.
_BLOCK = 1 << 21
_DAMPING = 0.85
#: The tolerated sum of the errors of all ranks.
_PRECISION = 1e-10
_ROUNDS = 1000
#: Significant digits of a rank that do not depend on the order of additions.
_DIGITS = 8

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Lists:
    """One list of papers per paper, concatenated."""

    #: The entries of all lists.
    others: Numbers
    #: The begin of each paper's list, and the end of the last list.
    begins: Numbers

    @classmethod
    def of(cls, papers: Numbers, others: Numbers, count: int) -> Lists:
        """Group the pairs (`papers`, `others`) into one list per paper; count: the number of papers."""
        order = np.argsort(papers, kind="stable")
        lengths = np.bincount(papers, minlength=count)
        return cls(others[order], np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))

    @property
    def lengths(self) -> Numbers:
        return np.diff(self.begins)


@dataclass(frozen=True)
class Graph:
    """Citations between papers that are numbered from 0."""

    #: The references of each paper.
    cites: Lists
    #: The papers that cite each paper.
    cited_by: Lists

    @classmethod
    def of(cls, citing: Numbers, cited: Numbers, count: int) -> Graph:
        """Return the graph of `count` papers; each pair (citing, cited) occurs once."""
        return cls(Lists.of(citing, cited, count), Lists.of(cited, citing, count))

    @property
    def count(self) -> int:
        """The number of papers."""
        return len(self.cites.begins) - 1

    def pageranks(self) -> list[float]:
        """Return the PageRank of each paper (their sum is 1), rounded to the digits that are reproducible."""
        graph = rustworkx.PyDiGraph(multigraph=False)
        graph.add_nodes_from(range(self.count))
        citing = np.repeat(np.arange(self.count), self.cites.lengths)
        for begin in range(0, len(citing), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            graph.extend_from_edge_list(
                [*zip(citing[part].tolist(), self.cites.others[part].tolist(), strict=True)]
            )
        tolerance = _PRECISION / max(self.count, 1)
        found = rustworkx.pagerank(graph, alpha=_DAMPING, tol=tolerance, max_iter=_ROUNDS)
        return [float(f"{found[number]:.{_DIGITS}g}") for number in range(self.count)]

    def co_cited(self) -> Iterator[Closest]:
        """Yield, for each paper, the papers most often cited together with it (co-citation)."""
        return _closest(self.cited_by, self.cites)

    def coupled(self) -> Iterator[Closest]:
        """Yield, for each paper, the papers with the most common references (bibliographic coupling)."""
        return _closest(self.cites, self.cited_by)


@dataclass(frozen=True)
class Closest:
    """The closest papers of some papers, as three columns, sorted by paper, then closest first, then number."""

    papers: Numbers
    others: Numbers
    strengths: Numbers
    #: The number of papers counted so far.
    done: int


def too_long(lists: Lists) -> int:
    """Return the number of lists that are longer than MOST and do not count."""
    return int(np.count_nonzero(lists.lengths > MOST))


def _closest(through: Lists, ends: Lists) -> Iterator[Closest]:
    """Yield the closest papers by the entries of `through` that they share; `ends` is the inverse of `through`."""
    lengths = np.where(ends.lengths > MOST, 0, ends.lengths)
    pairs = np.concatenate(([0], np.cumsum(lengths[through.others])))[through.begins]
    count, begin = len(through.begins) - 1, 0
    while begin < count:
        end = int(np.searchsorted(pairs, pairs[begin] + _BLOCK, side="right")) - 1
        end = min(max(end, begin + 1), count)
        between = through.others[through.begins[begin] : through.begins[end]]
        papers = np.repeat(np.arange(begin, end), through.lengths[begin:end])
        yield _strongest(
            np.repeat(papers, lengths[between]),
            ends.others[_ranges(ends.begins[between], lengths[between])],
            count,
            end,
        )
        begin = end


def _ranges(begins: Numbers, lengths: Numbers) -> Numbers:
    """Concatenate the ranges that start at `begins` and have the given `lengths`."""
    before = np.cumsum(lengths) - lengths
    found: Numbers = np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)
    return found


def _strongest(papers: Numbers, others: Numbers, count: int, done: int) -> Closest:
    """Count equal pairs of different papers, and keep the most frequent pairs of each paper."""
    pairs, strengths = np.unique((papers * count + others)[papers != others], return_counts=True)
    papers, others = np.divmod(pairs, count)
    order = np.lexsort((-strengths, papers))  # stable: equal ones stay in the order of their numbers
    papers = papers[order]
    first = np.searchsorted(papers, papers)
    strengths = strengths[order]
    place = np.arange(len(papers)) - first
    kept = place < np.where(strengths > 1, CLOSEST, np.where(strengths[first] > 1, 0, WEAKEST))
    return Closest(papers[kept], others[order[kept]], strengths[kept], done)
