"""Extractive summaries by TextRank: the sentences of an abstract that share most words with the others.

Method: Mihalcea and Tarau (2004), "TextRank: Bringing Order into Texts". Existing packages load models or word lists
from the network at run time, so rustworkx computes the PageRank of the sentences here.
"""

from __future__ import annotations

import re
from itertools import combinations
from math import log

from refnet.core.extras import needed

with needed("network"):
    import rustworkx

MODEL = "refnet-extract"
#: Increased when the method changes.
VERSION = "1"
#: The longest summary, in sentences and in characters.
_SENTENCES, LONGEST = 3, 1000
#: How much of an abstract is read, in characters and sentences; the pairs of sentences grow with the square.
_READ, _MOST = 20_000, 80

_END = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9])|(?<=[。！？])""")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|al|cf|vs|resp|approx|Fig|Eq|Sec|No|Dr|Prof|St)|\b[A-Z])\.$")
_WORD = re.compile(r"[^\W\d_]{3,}")
_MANY = (
    "about after all also among and any are because been before between both but can could does each either for from"
    " further had has have here how however into its itself many may more most much not only other our over same show"
    " shows some such than that the their them then there these they this those through under use used using very was"
    " were what when where which while who will with within without would you your"
)
#: Stop words.
_COMMON = frozenset(_MANY.split())


def extract(abstract: str) -> str:
    """Return a summary: at most three sentences of `abstract`, in order, at most LONGEST characters."""
    sentences = split(abstract[:_READ])[:_MOST]
    if len(sentences) <= _SENTENCES:
        return shortened(" ".join(sentences))
    scores = _scores(sentences)
    best = sorted(range(len(sentences)), key=lambda one: (-scores[one], one))[:_SENTENCES]
    kept: list[int] = []
    for one in best:  # the best sentence is kept, whatever its length
        if not kept or sum(len(sentences[each]) + 1 for each in (*kept, one)) <= LONGEST:
            kept.append(one)
    return shortened(" ".join(sentences[one] for one in sorted(kept)))


def split(text: str) -> list[str]:
    """Return the sentences of `text`, each on one line."""
    found: list[str] = []
    for part in _END.split(" ".join(text.split())):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += f" {part}"
        elif part.strip():
            found.append(part.strip())
    return found


def words(text: str) -> frozenset[str]:
    """Return the words of at least three letters, in lower case, without stop words."""
    return frozenset(_WORD.findall(text.casefold())) - _COMMON


def shortened(text: str, longest: int = LONGEST) -> str:
    """Shorten `text` to at most `longest` characters: to its first sentences, else to its first words."""
    if len(text) <= longest:
        return text
    ends = [found.start() for found in _END.finditer(text[: 2 * longest]) if found.start() <= longest]
    head = text[: longest - 1]
    return text[: ends[-1]] if ends else f"{head.rpartition(' ')[0] or head}…"


def _scores(sentences: list[str]) -> list[float]:
    """Return the PageRank of each sentence; edge weights are the shared words, normalized by length."""
    found = [words(one) for one in sentences]
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(len(found)))
    for one, other in combinations(range(len(found)), 2):
        if shared := len(found[one] & found[other]):
            weight = shared / (1 + log(len(found[one])) + log(len(found[other])))
            graph.extend_from_weighted_edge_list([(one, other, weight), (other, one, weight)])
    ranks = rustworkx.pagerank(graph, weight_fn=float, tol=1e-9, max_iter=1000)
    return [round(ranks[one], 9) for one in range(len(found))]
