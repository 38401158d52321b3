"""The texts of made-up papers in bulk, quickly cut into titles, abstracts and sentences of any length.

Dense texts, for benchmarks, compress like real abstracts: figures, names and checksums compensate recurring phrases.
Ratios of gzip -6: 2.87 for 785 titles and abstracts of Semantic Scholar, 3.0 for dense sample papers, 4.2 for
readable ones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from random import Random

from refnet.demo.abstracts import AREAS, compose


class Prose:
    """A long text of the abstracts of many papers, determined by seed and size.

    Args:
        seed: seed of the random numbers.
        size: the minimum length in characters; pieces cannot be longer either.
        dense: as compressible as real abstracts, not written for readers.
    """

    def __init__(self, seed: int, size: int = 8_000_000, *, dense: bool = False) -> None:
        random = Random(f"prose {seed}")  # noqa: S311  # made up, not secret
        self.titles: list[str] = []
        #: The index of each paper's first sentence, and the number of sentences.
        self._papers = [0]
        sentences: list[str] = []
        written = 0
        while written < size:
            paper = compose(random, len(self.titles) % AREAS, long=True, dense=dense)
            self.titles.append(paper.title)
            sentences += paper.sentences
            self._papers.append(len(sentences))
            written += sum(map(len, paper.sentences)) + len(paper.sentences)
        self.text = " ".join(sentences)
        self._starts = list(accumulate((len(one) + 1 for one in sentences), initial=0))

    def __len__(self) -> int:
        """Return the number of papers; paper n belongs to the area n % AREAS."""
        return len(self.titles)

    def abstract(self, paper: int, length: int) -> str:
        """Return complete sentences from the beginning of an abstract, about `length` characters."""
        first, end = self._papers[paper : paper + 2]
        return self._cut(first, length, end)

    def passage(self, at: float, length: int) -> str:
        """Return complete sentences of about `length` characters from the position `at` (0 to 1); at least one."""
        first = int(at * (bisect_left(self._starts, len(self.text) - length) or 1))
        return self._cut(first, length, len(self._starts) - 1)

    def _cut(self, first: int, length: int, end: int) -> str:
        begin = self._starts[first]
        last = max(bisect_right(self._starts, begin + length, first, end + 1) - 1, first + 1)
        return self.text[begin : self._starts[last] - 1]
