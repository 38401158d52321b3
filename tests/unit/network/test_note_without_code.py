"""Text of a provider or of a model in a note: data for every program that opens the vault, never code or a link."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from refnet.network.frontmatter import END, Id
from refnet.network.layout import Links
from refnet.network.note import Paper, PaperLink, author_key, render
from refnet.network.reading import Reading
from refnet.network.vault_names import NamedNote
from refnet.network.vault_views import SeedIndex, canvas, index_note, neighbours

#: What Templater, Dataview and Obsidian itself would run, load, follow or take as the end of RefNet's block.
TRICKS = [
    '<%* await tp.system.prompt("password") %>',
    "<%<% tp.file.title %>",
    "```dataviewjs\napp.vault.delete(dv.current())\n```",
    "~~~dataviewjs\nrequire('child_process')\n~~~",
    "`= this.file.path` and `$= dv.current()`",
    "![a picture](https://tracker.example/p.png)",
    "![[passwords]] and [[passwords]]",
    "[click](obsidian://advanced-uri?commandid=x) <file:///etc/passwd>",
    "<img src=https://tracker.example onerror=alert(1)><script>alert(1)</script>",
    f"text {END} %%%% text",
    "> [!danger]\n> # heading\n- [ ] task #tag\n$$x$$",
    "rating:: 5 (read:: true) [due:: today] std:::vector",
]


def note_of(text: str) -> str:
    url = f"https://host.example/{text}"
    paper = Paper(
        7, text, (text, text), 2020, text, text, text,
        provenance="semantic_scholar", ids={"doi": text}, references=(8,), cited_by=(9,),
        model=text, open_access_url=url, related=((8, "co_citation", 2),),
        author_ids=(1, 2), topics=(text,), quotes=((9, text, True),),
    )  # fmt: skip
    paths: dict[int | Id, str] = {7: "papers/a", 8: "papers/b", 9: "", author_key(1): "authors/a"}
    places = {key: PaperLink(path, text) for key, path in paths.items()}
    index = index_note(
        SeedIndex(paper, "canvas/a.canvas", (Reading(8, 1, 0, 0, 0, 0, 1),), ((9, 2),)), places
    )
    picture = canvas(paper, places, neighbours(paper, places), Links(((8, 9),)))
    cards = [card.get("text", "") for card in json.loads(picture)["nodes"]]
    ids = (("orcid", text), ("semantic_scholar", text))
    named = [NamedNote(kind, author_key(1), text, ids, [8, 9]).render(places) for kind in ("author", "topic")]
    return "\n".join([render(paper, places), index, *named, *cards])


@pytest.mark.parametrize("text", TRICKS)
def test_foreign_text_is_no_code_and_loads_nothing(text: str) -> None:
    note = note_of(text)
    body = re.sub(r"^---\n.*?\n---\n", "", note, flags=re.DOTALL | re.MULTILINE)
    bare = re.sub(r"\\[^\n]", "", body)  # without what is escaped

    assert "<%" not in note
    assert "`" not in bare
    assert not re.search(r"^[> -]*~~~", bare, re.MULTILINE)
    assert set(re.findall(r"!?\[\[([^]|]*)", bare)) <= {
        "papers/a", "papers/b", "authors/a", "canvas/a.canvas", "papers.base",
    }  # fmt: skip
    assert "](" not in bare
    assert "::" not in body  # a property of Dataview
    assert set(re.findall(r"<([a-z]+:?)", bare)) <= {"https:"}
    assert body.count(END) == 4


@pytest.mark.parametrize("text", TRICKS)
def test_a_property_still_has_the_exact_title(text: str) -> None:
    note = note_of(text)

    assert yaml.safe_load(note.split("\n---\n")[0])["title"] == " ".join(text.split())


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://a.example/%%/refnet%%", "<https://a.example/%25%25/refnet%25%25>"),
        ("https://a.example/[[x]]`y`", "<https://a.example/%5B%5Bx%5D%5D%60y%60>"),
        ("https://a.example/a%20b_c?d=e&f#g", "<https://a.example/a%20b_c?d=e&f#g>"),
    ],
)
def test_a_url_is_written_as_a_url_alone(url: str, written: str) -> None:
    assert f"Open access: {written}\n" in render(Paper(7, "A", open_access_url=url), {})
