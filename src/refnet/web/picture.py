"""The pictures of papers: one paper's neighbours, and the map of a crawl. Values in, coordinates out.

Years run from left to right, and similar papers have similar heights (`network/layout.py`).
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from refnet.network.layout import Links, bands, similar

#: Of the picture: the most neighbours, the most lines among them, the width of a label in columns (two per Japanese
#: character).
NEIGHBOURS, LINES, COLUMNS = 40, 300, 40
#: In its units: width, height of a row, margin on each side, room around a label.
WIDTH, ROW, FRAME, GAP = 1100, 22, 40, 12
#: The width of letters of a label, as wide fonts have them: two columns, M, I, A, a.
_DOUBLE, _WIDE, _NARROW, _UPPER, _LETTER = 13.5, 13.0, 5.2, 9.8, 8.0
#: Of the map: its height, the most papers, the most lines, the topics with a colour, the most labels.
TALL, MAPPED, MAP_LINES, TOPICS, LABELS = 760, 1000, 1500, 8, 30
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Node:
    """One paper of a picture."""

    id: int
    #: The complete title, and the title cut to `COLUMNS`.
    title: str
    label: str
    year: int | None
    #: As counted by the provider; None: unknown.
    citations: int | None
    #: seed, reference (cited by the seed), citing (cites the seed), or both; on a map seed or paper.
    kind: str
    #: The centre and the radius of the circle.
    x: float
    y: float
    radius: float
    #: On a map: the number of its topic in the legend; None: another topic.
    topic: int | None = None

    @property
    def side(self) -> int:
        """The side of the label, where there is room: -1 on the left, 1 on the right."""
        return 1 if self.x < WIDTH / 2 else -1

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where the circle and its label reach."""
        text = self.label + (f" {self.year}" if self.year else "")
        wide = self.radius + GAP + sum(map(_width, text))
        return (
            (self.x - self.radius, self.x + wide) if self.side > 0 else (self.x - wide, self.x + self.radius)
        )


@dataclass(frozen=True)
class Picture:
    """Papers, and the citations among them."""

    height: int
    #: From top to bottom.
    nodes: Sequence[Node]
    #: `d` of an SVG path of the citations with the seed as an end, and of the others.
    own: str
    others: str
    #: x and text of the years on the axis.
    years: Sequence[tuple[float, str]]


def neighbours(paper: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the references and the citing papers to show, the most cited of each.

    A paper that is both counts as a reference. A side leaves unused places to the other side.
    """
    references = paper["references"]["papers"]
    known = {one["id"] for one in references}
    citing = [one for one in paper["citations"]["papers"] if one["id"] not in known]
    left = min(len(references), max(NEIGHBOURS // 2, NEIGHBOURS - len(citing)))
    return references[:left], citing[: NEIGHBOURS - left]


def picture(paper: Mapping[str, Any], links: Links) -> Picture:
    """Return the picture of `paper`, an answer of the API, and its neighbours; no label covers another."""
    left, right = neighbours(paper)
    back = {one["id"] for one in paper["citations"]["papers"]}
    kinds = {one["id"]: "both" if one["id"] in back else "reference" for one in left}
    kinds |= {one["id"]: "citing" for one in right} | {paper["id"]: "seed"}
    shown = {one["id"]: one for one in (*left, *right, paper)}
    citations = [pair for pair in links.citations if {*pair} <= shown.keys()]
    across = bands(one["year"] for one in shown.values())
    by_year = _spread(shown.values(), across)
    nodes: list[Node] = []
    row, used = 0, list[tuple[float, float]]()
    others = sorted(by_year.keys() - {paper["id"]}, key=lambda one: (by_year[one], one))
    order = similar(others, (*citations, *links.close))
    order.insert(len(order) // 2, paper["id"])  # it is linked with all
    for number in order:
        node = _node(shown[number], kinds[number], by_year[number], FRAME + row * ROW)
        begin, end = node.ends
        if any(begin < other and end > one for one, other in used):
            row, used = row + 1, []
            node = _node(shown[number], kinds[number], by_year[number], FRAME + row * ROW)
        used.append((begin, end))
        nodes.append(node)
    return Picture(
        (row * ROW) + 2 * FRAME, nodes, *_paths(nodes, citations[:LINES], paper["id"]), _axis(across)
    )


def _spread(
    papers: Collection[Mapping[str, Any]], across: Mapping[int | None, tuple[float, float]]
) -> dict[int, float]:
    """Return id → x: the papers of a year share its band."""
    count: Counter[int | None] = Counter()
    total = Counter(one["year"] for one in papers)
    found = {}
    for one in papers:
        begin, end = across[one["year"]]
        count[one["year"]] += 1
        found[one["id"]] = _across(begin + (end - begin) * (count[one["year"]] - 0.5) / total[one["year"]])
    return found


def _across(part: float) -> float:
    return FRAME + part * (WIDTH - 2 * FRAME)


def _axis(across: Mapping[int | None, tuple[float, float]]) -> list[tuple[float, str]]:
    """Return the years that have room on the axis."""
    found: list[tuple[float, str]] = []
    for year, (begin, end) in across.items():
        x = _across((begin + end) / 2)
        if not found or x - found[-1][0] > 50:
            found.append((round(x, 1), str(year or "?")))
    return found


def _node(paper: Mapping[str, Any], kind: str, x: float, y: float, topic: int | None = None) -> Node:
    title = paper["title"] or f"#{paper['id']}"
    radius = min(9.0, 3 + math.log10(1 + (paper["citation_count"] or 0)))
    return Node(
        paper["id"], title, shortened(title), paper["year"], paper["citation_count"], kind,
        round(x, 1), round(y, 1), 11.0 if kind == "seed" else round(radius, 1), topic,
    )  # fmt: skip


def _paths(nodes: Iterable[Node], links: Iterable[tuple[int, int]], seed: int) -> tuple[str, str]:
    """Return the paths of the citations with the paper `seed`, and of the others."""
    at = {node.id: f"{node.x:g} {node.y:g}" for node in nodes}
    drawn = [(seed in pair, f"M{at[pair[0]]}L{at[pair[1]]}") for pair in links if {*pair} <= at.keys()]
    return "".join(path for own, path in drawn if own), "".join(path for own, path in drawn if not own)


def shortened(text: str, columns: int = COLUMNS) -> str:
    """Cut `text` to `columns`, with an ellipsis."""
    used = 0
    for place, one in enumerate(text):
        used += _columns(one)
        if used > columns:
            return text[: max(0, place - 1)].rstrip() + "…"
    return text


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _width(letter: str) -> float:
    if _columns(letter) == 2:
        return _DOUBLE
    if letter in "MWmw@%&—":
        return _WIDE
    return _NARROW if letter in "ijlItfr.,:;'|!()[] " else _UPPER if letter.isupper() else _LETTER


@dataclass(frozen=True)
class MapPaper:
    """A paper of a map."""

    id: int
    title: str | None
    year: int | None
    citation_count: int | None
    topics: tuple[str, ...]
    is_seed: bool
    #: The first author.
    author: str | None = None


@dataclass(frozen=True)
class PaperMap:
    """The papers of a crawl as points, coloured by topic."""

    picture: Picture
    #: The topics with a colour, the most frequent first, with the number of papers that have it.
    topics: Sequence[tuple[str, int]]
    #: Ids of the papers with a label: none covers another.
    labelled: frozenset[int]


@lru_cache(maxsize=8)
def paper_map(papers: tuple[MapPaper, ...], links: Links) -> PaperMap:
    """Return the map of `papers`, the best first: x by year, y by similarity, colour by the rarest topic with one."""
    shown = {one.id: one for one in papers}
    counts = Counter(topic for one in papers for topic in one.topics)
    coloured = [topic for topic, _ in counts.most_common(TOPICS)]
    across = bands(one.year for one in papers)
    nodes = []
    in_year: Counter[int | None] = Counter()
    for row, number in enumerate(similar([*shown], (*links.citations, *links.close))):
        one = shown[number]
        begin, end = across[one.year]
        in_year[one.year] += 1
        x = _across(
            begin + (end - begin) * (in_year[one.year] * _GOLDEN % 1)
        )  # spread, and the same each time
        y = FRAME + (row + 0.5) * (TALL - 2 * FRAME) / len(shown)
        topic = min(
            (n for n, t in enumerate(coloured) if t in one.topics),
            key=lambda n: counts[coloured[n]],
            default=None,
        )
        nodes.append(_node(vars(one), "seed" if one.is_seed else "paper", x, y, topic))
    order = {number: place for place, number in enumerate(shown)}
    strongest = sorted(
        links.citations, key=lambda pair: (order.get(pair[0], MAPPED) + order.get(pair[1], MAPPED), pair)
    )
    drawn = Picture(TALL, nodes, *_paths(nodes, strongest[:MAP_LINES], 0), _axis(across))
    return PaperMap(drawn, [(topic, counts[topic]) for topic in coloured], _labelled(nodes, order))


def _labelled(nodes: Iterable[Node], order: Mapping[int, int]) -> frozenset[int]:
    """Choose the papers with a label: seeds, then the best, where no label covers another."""
    boxes: list[tuple[float, float, float]] = []
    found: list[int] = []
    for node in sorted(nodes, key=lambda one: (one.kind != "seed", order[one.id])):
        begin, end = node.ends
        if len(found) == LABELS:
            break
        if not any(begin < right and end > left and abs(node.y - y) < ROW for left, right, y in boxes):
            boxes.append((begin, end, node.y))
            found.append(node.id)
    return frozenset(found)
