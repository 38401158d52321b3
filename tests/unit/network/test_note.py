"""A paper's note: a safe name, links, and what its reader wrote."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refnet.network import EXTRACT_MODEL
from refnet.network.frontmatter import BEGIN, END, NoteMark, NotOursError, dumped, mark_in
from refnet.network.note import Paper, PaperLink, author_key, name_of, render, topic_key

PAPER = Paper(
    7,
    'Graphs: "a survey" #1 [draft]',
    ("Ada Lovelace", "李 小龍"),
    2020,
    "A & B",
    "It uses [[links]] and %%comments%% and #tags.",
    ids={"doi": "10.1/abc", "arxiv": "2001.00001"},
    references=(8, 9, 9),
)
PLACES = {
    7: PaperLink("papers/Lovelace2020 Graphs (7)", "Graphs"),
    8: PaperLink("papers/Other (8)", "Other | [thing]"),
}


def matter(note: str) -> dict[str, object]:
    return yaml.safe_load(note.split("---\n")[1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("paper", "name"),
    [
        (PAPER, "Lovelace2020 Graphs a survey 1 draft (7)"),
        (Paper(1, "A/B: C? <D> | E^F\\G*"), "A B C D E F G (1)"),
        (Paper(2, ids={"cora": "35"}), "cora 35 (2)"),
        (Paper(3, ".hidden. "), "hidden (3)"),
        (Paper(4, "##"), "Paper (4)"),
        (Paper(9, "../../etc/passwd"), "etc passwd (9)"),
        (Paper(5, "CON"), "CON (5)"),
        (Paper(6, "two\nlines\x00\u200b", ("Plato",)), "Plato two lines (6)"),
        (
            Paper(8, "word " * 60),
            "word word word word word word word word word word word word word word word word (8)",
        ),
    ],
)
def test_a_name_is_readable_and_safe(paper: Paper, name: str) -> None:
    assert name_of(paper) == name


@given(st.text(), st.text(), st.integers(1, 1 << 62))
def test_every_name_is_safe_on_every_system_and_in_a_link(title: str, author: str, number: int) -> None:
    name = name_of(Paper(number, title, (author,), 2020))

    assert len(f"{name}.md".encode()) <= 255
    assert not re.search(r'[#|^:%\[\]/\\<>"?*\x00-\x1f]', name)
    assert name == name.strip()
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert name.endswith(f"({number})")


def test_a_new_note_has_yaml_at_its_beginning_and_one_block() -> None:
    note = render(PAPER, PLACES)

    assert note.startswith("---\n")
    assert matter(note) == {
        "refnet_ids": ["arxiv:2001.00001", "doi:10.1/abc"], "title": PAPER.title, "aliases": [PAPER.title], "authors": ["Ada Lovelace", "李 小龍"],
        "year": 2020, "venue": "A & B", "doi": "10.1/abc", "arxiv": "2001.00001", "cited_by": 0, "tags": ["paper"],
        "read": False,
    }  # fmt: skip
    assert note.count(BEGIN) == note.count(END) == 1
    assert mark_in(note) == NoteMark(index=False, ids=(("arxiv", "2001.00001"), ("doi", "10.1/abc")))


def test_only_references_with_a_note_are_linked_and_text_makes_no_links() -> None:
    links = re.findall(r"\[\[(.*?)\]\]", render(PAPER, PLACES))

    assert links == ["papers/Other (8)|Other thing"]
    assert render(PAPER, PLACES).count("%%") == 2 * 2
    assert "# a %\\%\\% b\n" in render(Paper(1, "a %%% b"), {})


def test_the_same_values_make_the_same_note() -> None:
    assert render(PAPER, PLACES, render(PAPER, PLACES)) == render(PAPER, PLACES)


def test_what_the_reader_wrote_survives_word_for_word() -> None:
    note = render(PAPER, PLACES)
    mine = note.replace(
        "---\n\n%%", '# my own comment\nrating: 5 # stars\nmine:\n  - "x: y"\n---\nabove\n\n%%'
    )
    mine = mine.replace("- paper\n", "- paper\n  - to-read\n") + "\nbelow: **mine**  \n"

    after = render(Paper(7, "A new title", references=(8,)), PLACES, mine)

    assert 'rating: 5 # stars\nmine:\n  - "x: y"\n---\nabove\n' in after
    assert after.endswith("%%/refnet%%\n\nbelow: **mine**  \n")
    assert matter(after)["tags"] == ["paper", "to-read"]
    assert matter(after)["title"] == "A new title"
    assert "doi" not in matter(after)
    assert matter(after)["aliases"] == ["A new title"]
    assert "# my own comment" in after


def test_a_block_that_the_reader_removed_comes_back_above_the_rest() -> None:
    note = render(PAPER, PLACES)
    without = note[: note.index(BEGIN)] + "mine"

    after = render(PAPER, PLACES, without)

    assert after.count(BEGIN) == 1
    assert after.endswith("mine")


def test_keys_that_are_not_changed_stay_where_and_as_they_are() -> None:
    mine = (
        "---\n# top\nrating: 5\nrefnet_id: 7\ntitle: 'A new title' # kept\ntags: [mine, paper]\n"
        f"year: 2020\n---\n{BEGIN}{END}\n"
    )

    after = render(Paper(7, "A new title", year=2021), PLACES, mine)

    assert after.startswith(
        '---\n# top\nrefnet_ids:\n  - "title:a new title"\nrating: 5\n'
        "title: 'A new title' # kept\naliases:\n  - A new title\n"
        "tags: [mine, paper]\nyear: 2021\ncited_by: 0\n---\n"
    )


def test_line_ends_of_either_kind_survive() -> None:
    note = render(PAPER, PLACES).replace("\n", "\r\n") + "mine\r\nalso mine\nlast"

    after = render(Paper(7, "A new title", references=(8,)), PLACES, note)

    assert after.endswith(f"{END}\r\nmine\r\nalso mine\nlast")
    assert "\n" not in after[: after.index(END)].replace("\r\n", "")
    assert render(PAPER, PLACES, after) == note


def test_a_list_shows_papers_with_notes_first_and_stubs_as_text() -> None:
    places = {
        1: PaperLink("papers/Old (1)", "Old", 1999),
        2: PaperLink("", "Known [by] title", 2021),
        3: PaperLink("papers/New (3)", "New", 2020),
        4: PaperLink("C# #1/x", "Moved", 2000),
    }
    note = render(
        Paper(9, "P", references=(1, 2, 3, 4), related=((1, "coupling", 1), (1, "co_citation", 2))), places
    )

    assert (
        "- [[papers/New (3)|New]] (2020)\n- Moved (2000)\n- [[papers/Old (1)|Old]] (1999)\n- Known \\[by\\] title (2021)"
        in note
    )
    assert "- [[papers/Old (1)|Old]] (1999): shares 1 reference, cited together by 2 papers" in note


def test_sentences_of_the_abstract_are_no_summary_beside_it() -> None:
    def shown(**more: object) -> bool:
        return "[!summary]" in render(Paper(9, "P", summary="One.", **more), {})  # type: ignore[arg-type]

    assert not shown(abstract="One. Two.", model=EXTRACT_MODEL)
    assert shown(model=EXTRACT_MODEL)
    assert shown(abstract="One. Two.", model="tldr@v2")


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 citations"), (1, "1 citation"), (1234, "1,234 citations")]
)
def test_citations_are_counted_in_words(count: int, said: str) -> None:
    assert f"Cited by 0 here · {said} in all\n" in render(Paper(9, "P", citation_count=count), {})


def test_a_note_shows_how_others_cite_it_and_leads_to_authors_and_topics() -> None:
    places = {
        1: PaperLink("papers/Citing (1)", "Citing", 2020),
        author_key(5): PaperLink("authors/Ada (5)", "Ada [L]"),
        topic_key("Computer Science"): PaperLink("topics/Computer Science", "Computer Science"),
    }
    paper = Paper(
        9, "P", ("Ada [L]", "Bob"), author_ids=(5, 6), topics=("computer science", "Art #1"),
        cited_by=(1, 2), quotes=((1, "As [[9]] shows, %%it%% works.", True), (2, "without a note", False)),
    )  # fmt: skip
    note = render(paper, places)

    assert "\n[[authors/Ada (5)|Ada L]], Bob\n" in note
    assert "\n[[topics/Computer Science|Computer Science]] · Art \\#1\n" in note
    assert (
        "## How others cite it\n\n- “As \\[\\[9\\]\\] shows, %\\%it%\\% works.” — [[papers/Citing (1)|Citing]] (2020), influential\n"
        in note
    )
    assert "without a note" not in note
    assert matter(note)["topics"] == ["computer science", "Art #1"]


def test_a_long_list_is_cut_but_for_references_that_have_a_note() -> None:
    places = {number: PaperLink(f"papers/{number}", f"T{number}") for number in range(150)}
    places |= {number: PaperLink("", f"T{number}") for number in range(150, 300)}
    note = render(Paper(999, "P", references=(*range(300),), cited_by=(*range(150),)), places)

    references, citing = note.split("## References")[1].split("## Cited by")
    assert references.count("[[") == 150
    assert "- and 50 more" in references
    assert citing.count("[[") == 100
    assert "- and 50 more" in citing


_VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        ["yes", "No", "null", "~", "1", "1e3", "2020-01-01", "a: b", "a #b", "- a", "'", '"', "0x1", "\x85"]
    ),
)


@given(st.dictionaries(st.sampled_from(["title", "venue", "doi"]), _VALUES), st.lists(_VALUES), st.integers())
def test_what_is_written_as_yaml_is_read_as_it_was(
    texts: dict[str, str], entries: list[str], year: int
) -> None:
    values = {**texts, "authors": entries or ["x"], "year": year}

    assert yaml.safe_load(dumped(values)) == values


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("---\nrefnet_id: 7\n---\n%%/refnet%%", "are not one pair"),
        (f"---\nrefnet_id: 7\n---\n{END}{BEGIN}", "are not one pair"),
        (f"---\nrefnet_id: 7\n---\n{BEGIN}{BEGIN}{END}", "are not one pair"),
        ("---\nrefnet_id: 7\nbad: [\n---\n", "is not valid YAML"),
        ("---\nrefnet_id: 7\nat: !!timestamp\n---\n", "is not valid YAML: a value does not fit its tag"),
        ("---\nrefnet_id: 7\nat: !!timestamp 2020-99-99\n---\n", "is not valid YAML: month must be"),
        ("---\nrefnet_id: 7\non: !!bool maybe\n---\n", "is not valid YAML: a value does not fit its tag"),
        ("---\nrefnet_id: 7\nno: !!int ''\n---\n", "is not valid YAML: a value does not fit its tag"),
        ("---\n{refnet_id: 7}\n---\n", "is not a list of properties"),
        ("---\nrefnet_id: 7\n", "has no frontmatter"),
    ],
)
def test_a_note_without_a_safe_place_is_left_alone(before: str, told: str) -> None:
    with pytest.raises(NotOursError, match=told):
        render(PAPER, PLACES, before)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_any_text_below_the_block_survives(text: str) -> None:
    if BEGIN in text or END in text:
        return
    before = render(PAPER, PLACES) + text

    assert render(Paper(7, "Else"), PLACES, before).endswith(f"{END}\n{text}")


@given(st.text(min_size=1), st.text(), st.text())
def test_no_text_of_a_paper_breaks_its_note(title: str, abstract: str, author: str) -> None:
    clean = [one.encode(errors="ignore").decode() for one in (title, abstract, author)]
    note = render(Paper(7, clean[0] or "x", (clean[2],), abstract=clean[1]), PLACES)

    body = note.split("---\n", 2)[2]
    assert body.count(BEGIN) == body.count(END) == 1
    assert "[[" not in body
    assert render(Paper(7, clean[0] or "x", (clean[2],), abstract=clean[1]), PLACES, note) == note


@pytest.mark.parametrize(
    "value",
    ["1:" * 300 + "1.5", "!!float 1:" + "1:" * 300 + "1.5"],
    ids=["base 60", "tagged"],
)
def test_a_property_that_is_no_value_is_none_and_the_note_stays(value: str) -> None:
    note = f"---\nrefnet_id: 7\ntitle: {value}\nmine: {value}\n---\n"

    assert mark_in(note) == NoteMark(index=False, ids=(), number=7)
    with suppress(NotOursError):
        render(PAPER, PLACES, note)


def test_properties_that_are_long_to_compare_are_not_compared() -> None:
    def lists(name: str) -> str:
        above = "".join(f", &{name}{n} [{', '.join([f'*{name}{n - 1}'] * 9)}]" for n in range(1, 10))
        return f"[&{name}0 [x]{above}]"

    note = f"---\nrefnet_ids: [doi:10.1/abc]\ntitle: {lists('t')}\naliases: [{lists('a')}]\n---\n"
    begun = time.monotonic()
    with suppress(NotOursError):
        render(PAPER, PLACES, note)

    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("title", ["\xa8", "?!", "Graphs: \u201ca survey\u201d", "\U0001f4da"])
def test_a_paper_with_a_title_alone_is_found_by_it(title: str) -> None:
    paper = Paper(9, title)

    mark = mark_in(render(paper, PLACES))
    assert mark
    assert [f"{scheme}:{value}" for scheme, value in mark.ids] == paper.names
