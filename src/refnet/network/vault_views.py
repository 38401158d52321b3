"""The files of a vault other than papers' notes: index notes, canvases, a base, colours. Values in, text out.

RefNet owns the block of an index note, as in a paper's note. A base or a canvas contains its own SHA-256: as long as
it matches, the file is unedited and may be renewed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from refnet.network.frontmatter import (
    BEGIN,
    END,
    IDS_KEY,
    INDEX_KEY,
    INDEX_TITLE,
    OLD_INDEX_KEY,
    dumped,
    renewed,
    scalar,
)
from refnet.network.layout import Links, similar
from refnet.network.news import News
from refnet.network.note import Paper, PaperLink, Places, listed, plain, section
from refnet.network.reading import Reading

_OWNED = frozenset({INDEX_KEY, OLD_INDEX_KEY, "title"})
_ZEROS = "0" * 64
_SEAL = re.compile(r"(refnet_sha256\W{2,4})([0-9a-f]{64})\b")

#: The sizes of cards and gaps of a canvas, in pixels.
_CARD, _SEED, _GAP, _AISLE, _PAD = (380, 150), (520, 460), 50, 180, 30
#: The columns on one side of a canvas, and the cards in a column.
_COLUMNS, _ROWS = 4, 5
#: The most edges of a canvas among the neighbours.
_EDGES = 150

_BASE = f"""\
# refnet_sha256: {_ZEROS}
# Edit it, and RefNet leaves it alone; delete it, and RefNet writes it again.
filters:
  and:
    - file.hasTag("paper")
properties:
  file.name:
    displayName: Note
  note.cited_by:
    displayName: Cited by, here
  note.citation_count:
    displayName: Citations in all
views:
"""
_COLUMN_NAMES = (
    "file.name",
    "title",
    "authors",
    "year",
    "venue",
    "topics",
    "rank",
    "cited_by",
    "citation_count",
    "read",
)
#: Name, filter, property to sort by, direction.
_VIEWS = (
    ("By rank", "", "rank", "ASC"),
    ("By year", "", "year", "DESC"),
    ("Cited most", "", "cited_by", "DESC"),
    ("Unread", "read != true", "rank", "ASC"),
    ("Read", "read == true", "year", "DESC"),
)
#: The most topics with a table.
_TOPICS = 20
#: Query and colour for notes in Obsidian's graph; the first match counts.
_COLOURS = (("path:index/", 0xE8590C), ('["read":true]', 0x2F9E44), ("path:papers/", 0x4C6EF5))
GRAPH = json.dumps(
    {
        "colorGroups": [{"query": query, "color": {"a": 1, "rgb": colour}} for query, colour in _COLOURS],
        "hideUnresolved": True,
    },
    indent=2,
)


@dataclass(frozen=True)
class SeedIndex:
    """The content of an index note."""

    seed: Paper
    #: The path of the canvas in the vault.
    canvas: str
    #: What to read first; row ids and citations of the most cited papers without a note.
    best: Sequence[Reading] = ()
    missing: Sequence[tuple[int, int]] = ()


def index_note(index: SeedIndex, places: Places, before: str | None = None) -> str:
    """Return the text of a seed's index note: new, or `before` with RefNet's part renewed (see `note.render`)."""
    seed = index.seed
    own = {INDEX_KEY: seed.names or [], "title": f"{INDEX_TITLE}{seed.heading}", "tags": ["index"]}
    known = [places[one] for one in {*seed.references} if one in places]
    noted = sum(bool(one.path) for one in known)
    parts = [
        BEGIN,
        f"# Index of {plain(seed.heading)}",
        f"Start with {places[seed.id].line}, or with [[{index.canvas}|its picture]].",
        f"It has {len(known):,} known references, {noted:,} of them with a note; {len(seed.cited_by):,} papers here cite it.",
    ]
    best = [f"{places[one.id].line}: {one.why}" for one in index.best if one.id in places]
    if best:
        parts.append("## Read first\n\n" + "\n".join(f"{n}. {line}" for n, line in enumerate(best, 1)))
    related = [places[one] for one in {other for other, _, _ in seed.related} if one in places]
    parts += section("Related", related)
    if index.missing:
        lines = (f"{places[one].line}: cited by {count:,} papers here" for one, count in index.missing)
        parts.append(f"## Cited often, without a note\n\n{listed(lines)}")
    parts += ["## All papers\n\n![[papers.base]]", END]
    block = "\n\n".join(parts)
    return f"---\n{dumped(own)}---\n\n{block}\n" if before is None else renewed(before, own, _OWNED, block)


def base(topics: Iterable[str] = ()) -> str:
    """Return the base with tables of all papers, and with one for each of the first `topics`."""
    # Bases have no escapes for quotes in a text; the seal is recognized by its name.
    known = [one for one in topics if one.isprintable() and not re.search(r'["\\]|refnet_sha256', one)]
    views = [*_VIEWS]
    views += [(f"Topic: {one}", f'list(topics).contains("{one}")', "rank", "ASC") for one in known[:_TOPICS]]
    text = [_BASE]
    for name, only, by, direction in views:
        text.append(f"  - type: table\n    name: {scalar(name)}\n")
        if only:
            text.append(f"    filters:\n      and:\n        - {scalar(only)}\n")
        text.append("    order:\n" + "".join(f"      - {column}\n" for column in _COLUMN_NAMES))
        text.append(f"    sort:\n      - property: {by}\n        direction: {direction}\n")
        text.append("    columnSize:\n      file.name: 300\n      note.title: 420\n      note.authors: 240\n")
    return _sealed("".join(text))


@dataclass(frozen=True)
class Neighbours:
    """The papers of a canvas beside its seed: row ids."""

    references: Sequence[int]
    cited_by: Sequence[int]


def neighbours(seed: Paper, places: Places) -> Neighbours:
    """Return the papers for the canvas of `seed`: first those with a note, then by rank."""

    def best(ones: Iterable[int]) -> list[int]:
        known = [one for one in ones if one in places]
        return sorted(known, key=lambda one: _order(places[one]))[: _COLUMNS * _ROWS]

    return Neighbours(best({*seed.references}), best({*seed.cited_by} - {*seed.references}))


def _order(place: PaperLink) -> tuple[bool, int, tuple[bool, int, str]]:
    return not place.path, place.rank or 1 << 40, place.order


def canvas(seed: Paper, places: Places, near: Neighbours, links: Links) -> str:
    """Return the canvas of a seed paper: references on the left, the seed in the middle, citing papers on the right.

    Each side has columns of years, those near the seed's year in the middle; in a column similar papers are close.
    """
    here = places[seed.id]
    width, height = _SEED
    nodes = [_card("seed", here, (-width // 2, -height // 2), _SEED) | {"color": "6"}]
    cards: dict[int, dict[str, Any]] = {seed.id: nodes[0]}
    shown = [*near.references, *near.cited_by]
    place_of = {one: row for row, one in enumerate(similar(shown, (*links.citations, *links.close)))}
    for side, others in (("left", near.references), ("right", near.cited_by)):
        for number, column in enumerate(_columns(others, places, side)):
            name = f"{side}{number}"
            x = width // 2 + _AISLE + number * (_CARD[0] + _AISLE)
            x = x if side == "right" else -x - _CARD[0]
            tall = len(column) * (_CARD[1] + _GAP) - _GAP
            nodes.insert(0, _group(name, [places[one] for one in column], (x, -tall // 2), tall))
            for row, one in enumerate(sorted(column, key=place_of.__getitem__)):
                at = (x, -tall // 2 + row * (_CARD[1] + _GAP))
                cards[one] = _card(f"{name}.{row}", places[one], at, _CARD)
                nodes.append(cards[one])
    own = [*((seed.id, one) for one in near.references), *((one, seed.id) for one in near.cited_by)]
    more = [pair for pair in links.citations if seed.id not in pair and {*pair} <= cards.keys()]
    edges = [_edge(cards[citing], cards[cited]) for citing, cited in [*own, *more[:_EDGES]]]
    values = {"nodes": nodes, "edges": edges, IDS_KEY: seed.names or [], "refnet_sha256": _ZEROS}
    return _sealed(json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def news_note(found: News, places: Places) -> str:
    """Return the note about what an update found."""
    own = {"title": found.title, "tags": ["news"], "refnet_sha256": _ZEROS}
    parts = [f"# {found.title}", "Edit this note, and RefNet leaves it alone."]
    for heading, papers in (
        ("Cites several of yours", [one for one in found.papers if len(one.cites) > 1]),
        ("Cites one of yours", [one for one in found.papers if len(one.cites) == 1]),
    ):
        if papers:
            lines = (
                f"{places[one.paper_id].line} cites {'; '.join(places[mine].line for mine in one.cites)}"
                for one in papers
                if {one.paper_id, *one.cites} <= places.keys()
            )
            parts.append(f"## {heading}\n\n{listed(lines)}")
    return _sealed(f"---\n{dumped(own)}---\n\n" + "\n\n".join(parts) + "\n")


def _edge(citing: Mapping[str, Any], cited: Mapping[str, Any]) -> dict[str, Any]:
    """Return an edge; one of the seed has its colour."""
    before, after = ("right", "left") if citing["x"] < cited["x"] else ("left", "right")
    edge = {
        "id": f"edge.{citing['id']}.{cited['id']}", "fromNode": citing["id"], "fromSide": before,
        "toNode": cited["id"], "toSide": after if citing["x"] != cited["x"] else before,
    }  # fmt: skip
    return edge | ({"color": "6"} if "seed" in {citing["id"], cited["id"]} else {})


def _columns(papers: Sequence[int], places: Places, side: str) -> list[list[int]]:
    """Return the columns of a side, the column beside the seed first; years run from left to right."""
    shown = sorted(papers, key=lambda one: (places[one].year or 0, places[one].text))
    if side == "left":
        shown.reverse()
    count = -(-len(shown) // _ROWS)
    ends = [len(shown) * number // count for number in range(count + 1)] if count else [0]
    return [shown[begin:end] for begin, end in pairwise(ends)]


def _group(name: str, column: Sequence[PaperLink], at: tuple[int, int], tall: int) -> dict[str, Any]:
    years = [place.year for place in column if place.year]
    label = "year unknown"
    if years:
        label = f"{min(years)}" if min(years) == max(years) else f"{min(years)}–{max(years)}"
    return {
        "id": name, "type": "group", "label": ("References " if name.startswith("left") else "Cited by ") + label,
        "x": at[0] - _PAD, "y": at[1] - _PAD, "width": _CARD[0] + 2 * _PAD, "height": tall + 2 * _PAD,
        "color": "5" if name.startswith("left") else "4",
    }  # fmt: skip


def _card(name: str, place: PaperLink, at: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    shown = (
        {"type": "file", "file": f"{place.path}.md"} if place.path else {"type": "text", "text": place.line}
    )
    return {"id": name, **shown, "x": at[0], "y": at[1], "width": size[0], "height": size[1]}


def _sealed(text: str) -> str:
    return _SEAL.sub(rf"\g<1>{_digest(text)}", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def is_as_written(text: str) -> bool:
    """Return whether `text`, a base or a canvas, is unedited since RefNet wrote it."""
    found = _SEAL.findall(text)
    return len(found) == 1 and _digest(_SEAL.sub(rf"\g<1>{_ZEROS}", text)) == found[0][1]
