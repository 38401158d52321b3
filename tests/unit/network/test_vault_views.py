"""Index notes, canvases, the base: valid, readable, and renewed only as long as nobody has edited them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
import yaml

from refnet.network import note
from refnet.network.frontmatter import Id, NoteMark, mark_in
from refnet.network.layout import Links
from refnet.network.note import Paper, PaperLink
from refnet.network.reading import Reading
from refnet.network.vault_views import GRAPH, SeedIndex, base, canvas, index_note, is_as_written, neighbours

SEED = Paper(1, "The [[seed]]", year=2015, references=(*range(2, 40),), cited_by=(*range(40, 50),))
PLACES: dict[int | Id, PaperLink] = {
    1: PaperLink("papers/Seed (1)", "The [[seed]]", 2015, 1),
    **{n: PaperLink(f"papers/R ({n})", f"R{n}", 1970 + n, n) for n in range(2, 38)},
    38: PaperLink("", "Known by title", 1980),
    39: PaperLink("", "Also", None),
    **{n: PaperLink(f"papers/C ({n})", f"C{n}", 2016) for n in range(40, 50)},
}


def shape(text: str) -> Mapping[str, list[dict[str, object]]]:
    return json.loads(text)  # type: ignore[no-any-return]


def drawn(seed: Paper = SEED, citations: tuple[tuple[int, int], ...] = ()) -> str:
    return canvas(seed, PLACES, neighbours(seed, PLACES), Links(citations))


def test_a_canvas_has_the_seed_in_the_middle_and_years_left_to_right() -> None:
    found = shape(drawn())
    nodes = {str(node["id"]): node for node in found["nodes"]}
    cards = {name: node for name, node in nodes.items() if node["type"] != "group"}

    assert len(nodes) == len(found["nodes"])
    assert len(cards) == 1 + 20 + 10
    for node in found["nodes"]:
        assert all(type(node[key]) is int for key in ("x", "y", "width", "height"))
        assert node["type"] in {"file", "text", "group"}
    for edge in found["edges"]:
        assert {edge["fromNode"], edge["toNode"]} <= cards.keys()
        assert (
            cards[str(edge["toNode"])]["x"] < cards[str(edge["fromNode"])]["x"]
        )  # who cites stands on the right
    assert len(found["edges"]) == len(cards) - 1
    years = {int(str(node["x"])): str(node["label"]) for node in found["nodes"] if node["type"] == "group"}
    assert [years[x] for x in sorted(years)][:3] == [
        "References 1972–1976",
        "References 1977–1981",
        "References 1982–1986",
    ]


def test_a_canvas_shows_the_citations_among_the_neighbours_and_has_them_close() -> None:
    pairs = ((3, 7), (7, 5), (41, 3), (1, 2), (42, 999))
    found = shape(drawn(citations=pairs))
    files = {str(node["id"]): str(node.get("file")) for node in found["nodes"]}
    edges = {(files[str(one["fromNode"])], files[str(one["toNode"])]): one for one in found["edges"]}

    assert len(edges) == len(found["edges"]) == 30 + 3
    for citing, cited in pairs[:3]:
        assert "color" not in edges[PLACES[citing].path + ".md", PLACES[cited].path + ".md"]
    assert edges["papers/Seed (1).md", "papers/R (2).md"]["color"] == "6"
    apart = (*((2, n) for n in (4, 6)), *((3, n) for n in (5,)))
    columns = [
        str(node["file"]) for node in shape(drawn(citations=apart))["nodes"] if "R (" in str(node.get("file"))
    ]
    first = [name for name in columns if any(f"({n})" in name for n in range(2, 7))]
    assert [n for n in (2, 4, 6) if f"papers/R ({n}).md" in first[:3]] in ([], [2, 4, 6])


def test_no_two_cards_of_a_canvas_overlap() -> None:
    cards = [node for node in shape(drawn())["nodes"] if node["type"] != "group"]
    boxes = [(int(str(n["x"])), int(str(n["y"])), int(str(n["width"])), int(str(n["height"]))) for n in cards]
    for number, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[:number]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_a_canvas_of_a_paper_without_links_is_the_paper_alone() -> None:
    found = shape(drawn(Paper(1, "Alone")))

    assert [node["file"] for node in found["nodes"]] == ["papers/Seed (1).md"]
    assert found["edges"] == []


def test_the_base_is_yaml_with_views_of_all_papers_and_of_unread_ones() -> None:
    found = yaml.safe_load(base())

    assert [view["name"] for view in found["views"]] == [
        "By rank",
        "By year",
        "Cited most",
        "Unread",
        "Read",
    ]
    assert found["views"][3]["filters"] == {"and": ["read != true"]}
    assert all("rank" in view["order"] for view in found["views"])
    assert json.loads(GRAPH)["colorGroups"]


#: A filter of a view: what Obsidian's documents list under functions and operators, as far as it is used here.
FILTER = re.compile(
    r'file\.hasTag\("[^"\\]+"\)|list\(\w+\)\.contains\("[^"\\]+"\)|\w+ (?:==|!=) (?:true|false)'
)
ODD = (
    "Art: & <b>",
    "#1 | [[x]]",
    "it's",
    "日本語",
    'a "quote"',
    "b\\",
    "x\ny",
    "refnet_sha256: " + "0" * 64,
    "yes",
    "%% - {a}",
)


def test_the_base_has_a_table_for_each_topic_as_obsidian_documents_it() -> None:
    text = base([*ODD, *(f"Topic {number}" for number in range(50))])
    found = yaml.safe_load(text)

    assert found.keys() == {"filters", "properties", "views"}
    names = [one["name"] for one in found["views"]]
    assert names[5:11] == [
        "Topic: Art: & <b>",
        "Topic: #1 | [[x]]",
        "Topic: it's",
        "Topic: 日本語",
        "Topic: yes",
        "Topic: %% - {a}",
    ]
    assert (len(names), len({*names})) == (25, 25)
    for view in found["views"]:
        assert view.keys() <= {"type", "name", "filters", "order", "sort", "columnSize"}
        assert view["type"] == "table"
        assert all(FILTER.fullmatch(one) for one in view.get("filters", {"and": []})["and"])
        assert all(
            one["direction"] in {"ASC", "DESC"} and one["property"] in view["order"] for one in view["sort"]
        )
        assert {one.removeprefix("note.") for one in view["columnSize"]} <= {*view["order"]}
        assert {one for one in view["order"] if "." not in one} <= {*note._OWNED, "read"}
    assert is_as_written(text)


@pytest.mark.parametrize("text", [base(), base(ODD), drawn()], ids=["base", "topics", "canvas"])
def test_a_base_or_canvas_that_somebody_edited_is_not_as_written(text: str) -> None:
    assert is_as_written(text)
    for edited in (text + "\n", text.replace("0", "9"), text.replace("refnet_sha256", "x"), "", text * 2):
        assert not is_as_written(edited)


def test_an_index_note_lists_what_to_read_first_and_what_is_missing() -> None:
    best = (Reading(3, 5, 0, 2, 0, 0.4, 9), Reading(999, 1, 0, 0, 0, 0, 8), Reading(2, 0, 1, 0, 1, 7.6, 7))
    note = index_note(SeedIndex(SEED, "canvas/Seed (1).canvas", best, ((38, 7),)), PLACES)

    assert mark_in(note) == NoteMark(index=True, ids=(("title", "the seed"),))
    assert "[[papers/Seed (1)|The seed]]" in note
    assert "[[canvas/Seed (1).canvas|its picture]]" in note
    assert "38 known references, 36 of them with a note; 10 papers here cite it" in note
    assert "1. [[papers/R (3)|R3]] (1973): cited by 5 of yours; influential for 2\n" in note
    assert (
        "2. [[papers/R (2)|R2]] (1972): cites 1 of yours; cited together with yours by 1 paper; 8 citations a year\n"
        in note
    )
    assert "- Known by title (1980): cited by 7 papers here" in note
    assert "![[papers.base]]" in note
    mine = note.replace("tags:", "mine: x\ntags:") + "my words"
    after = index_note(SeedIndex(Paper(1, "Renamed"), "canvas/Seed (1).canvas"), PLACES, mine)
    assert "mine: x\n" in after
    assert after.endswith("my words")
    assert "Index of Renamed" in after
