"""PageRank, co-citation and bibliographic coupling of a citation graph. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.core.extras import needed

with needed("network"):
    import numpy as np
    import rustworkx

#: The closest papers that are kept of each paper; of those that share one paper only, and only where none shares more.
CLOSEST, WEAKEST = 10, 3
#: A paper with more references than this does not count for co-citation, one with more citations not for coupling:
#: a list of that length says little of any two papers on it, and has as many pairs as its square.
MOST = 200
#: The pairs that are counted at once: they bound the memory, at about 60 bytes a pair.
_BLOCK = 1 << 21
_DAMPING = 0.85
#: The sum of the errors of all ranks.
_PRECISION = 1e-10
_ROUNDS = 1000
#: Digits of a rank that do not depend on the order of additions.
_DIGITS = 8

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Lists:
    """One list of papers for each paper, one after the other."""

    #: The other papers, of all lists.
    others: Numbers
    #: Where each paper's list begins, and the end of the last one.
    begins: Numbers

    @classmethod
    def of(cls, papers: Numbers, others: Numbers, count: int) -> Lists:
        """Return the list of `others` of each of `count` papers."""
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
        """Return the graph of `count` papers; each pair of citing and cited comes once."""
        return cls(Lists.of(citing, cited, count), Lists.of(cited, citing, count))

    @property
    def count(self) -> int:
        """The number of papers."""
        return len(self.cites.begins) - 1

    def pageranks(self) -> list[float]:
        """Return the PageRank of each paper, of a sum of 1, in as many digits as every run computes."""
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
        """Yield the papers that are most often cited together with each paper."""
        return _closest(self.cited_by, self.cites)

    def coupled(self) -> Iterator[Closest]:
        """Yield the papers that have most references in common with each paper."""
        return _closest(self.cites, self.cited_by)


@dataclass(frozen=True)
class Closest:
    """The closest papers of some papers, as three columns: by paper, then the closest first, then by number."""

    papers: Numbers
    others: Numbers
    strengths: Numbers
    #: The papers that have been counted so far.
    done: int


def too_long(lists: Lists) -> int:
    """Return how many of `lists` are longer than MOST, so that they do not count."""
    return int(np.count_nonzero(lists.lengths > MOST))


def _closest(through: Lists, ends: Lists) -> Iterator[Closest]:
    """Yield what shares most of `through` with each paper, where `ends` lead from there to the papers that share it."""
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
    """Return the numbers from each of `begins` on, as many as `lengths` says, one range after the other."""
    before = np.cumsum(lengths) - lengths
    found: Numbers = np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)
    return found


def _strongest(papers: Numbers, others: Numbers, count: int, done: int) -> Closest:
    """Count the equal pairs of two different papers, and keep the most frequent of each paper."""
    pairs, strengths = np.unique((papers * count + others)[papers != others], return_counts=True)
    papers, others = np.divmod(pairs, count)
    order = np.lexsort((-strengths, papers))  # stable: equal ones stay in the order of their numbers
    papers = papers[order]
    first = np.searchsorted(papers, papers)
    strengths = strengths[order]
    place = np.arange(len(papers)) - first
    kept = place < np.where(strengths > 1, CLOSEST, np.where(strengths[first] > 1, 0, WEAKEST))
    return Closest(papers[kept], others[order[kept]], strengths[kept], done)
