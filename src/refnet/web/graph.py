"""The picture of a paper's neighbours: the positions of nodes and lines. Pure: values in, numbers out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The most neighbours, the most lines among them, the width of a label in columns (two per Japanese character).
MOST, LINES, COLUMNS = 40, 300, 40
#: In units of the picture: width, height of a row, half width of the ring, margin above and below.
WIDTH, ROW, RADIUS, FRAME = 1100, 26, 170, 40


@dataclass(frozen=True)
class Node:
    """One paper of the picture."""

    id: int
    #: The complete title, and the title cut to `COLUMNS`.
    title: str
    label: str
    year: int | None
    #: As counted by the provider; None: unknown.
    citations: int | None
    #: seed, reference (cited by the seed), citing (cites the seed), or both.
    kind: str
    #: The centre and the radius of the circle.
    x: float
    y: float
    radius: float

    @property
    def side(self) -> int:
        """The position of the label: -1 on the left, 1 on the right, 0 in the middle."""
        return (self.x > WIDTH / 2) - (self.x < WIDTH / 2)


@dataclass(frozen=True)
class Picture:
    """The seed in the centre, references on the left of a ring, citing papers on the right."""

    height: int
    #: The seed first, then each side, oldest first.
    nodes: Sequence[Node]
    #: For each citation: `d` of an SVG path, and whether the seed is an end.
    lines: Sequence[tuple[str, bool]]


def neighbours(paper: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the references and the citing papers to show, the most cited of each.

    A paper that is both counts as a reference. A side leaves unused places to the other side.
    """
    references = paper["references"]["papers"]
    known = {one["id"] for one in references}
    citing = [one for one in paper["citations"]["papers"] if one["id"] not in known]
    left = min(len(references), max(MOST // 2, MOST - len(citing)))
    return references[:left], citing[: MOST - left]


def picture(paper: Mapping[str, Any], citations: Iterable[tuple[int, int]]) -> Picture:
    """Return the picture of `paper`, an answer of the API.

    citations: among the shown papers: ids of citing and cited paper.
    """
    left, right = neighbours(paper)
    back = {one["id"] for one in paper["citations"]["papers"]}
    height = max(len(left), len(right), 6) * ROW + 2 * FRAME
    nodes = [_node(paper, "seed", WIDTH / 2, height / 2)]
    for ones, kind, side in ((left, "reference", -1), (right, "citing", 1)):
        ordered = sorted(ones, key=lambda one: (one["year"] or 0, one["id"]))
        for row, one in enumerate(ordered):
            y = height / 2 + (row - (len(ordered) - 1) / 2) * ROW
            # on an ellipse, with rows of equal height, so that no label covers another
            part = (y - height / 2) / (height / 2)
            x = WIDTH / 2 + side * RADIUS * (0.25 + 0.75 * math.sqrt(1 - part * part))
            nodes.append(_node(one, "both" if side < 0 and one["id"] in back else kind, x, y))
    places = {node.id: node for node in nodes}
    lines = [
        (_path(places[citing], places[cited], height), paper["id"] in {citing, cited})
        for citing, cited in citations
        if citing in places and cited in places
    ]
    return Picture(height, nodes, lines[:LINES])


def _node(paper: Mapping[str, Any], kind: str, x: float, y: float) -> Node:
    title = paper["title"] or f"#{paper['id']}"
    radius = 12.0 if kind == "seed" else min(9.0, 3 + math.log10(1 + (paper["citation_count"] or 0)))
    return Node(
        paper["id"], title, shortened(title), paper["year"], paper["citation_count"], kind,
        round(x, 1), round(y, 1), round(radius, 1),
    )  # fmt: skip


def _path(one: Node, other: Node, height: float) -> str:
    """Return a curve between two nodes, bent towards the middle."""
    middle = ((one.x + other.x) / 4 + WIDTH / 4, (one.y + other.y) / 4 + height / 4)
    return f"M{one.x:g} {one.y:g}Q{middle[0]:.1f} {middle[1]:.1f} {other.x:g} {other.y:g}"


def shortened(text: str, columns: int = COLUMNS) -> str:
    """Cut `text` to `columns`, with an ellipsis."""
    used = 0
    for place, one in enumerate(text):
        used += 2 if unicodedata.east_asian_width(one) in "WF" else 1
        if used > columns:
            return text[: max(0, place - 1)].rstrip() + "…"
    return text
