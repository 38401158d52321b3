"""Exports: valid whatever the titles are, with all papers and citations, streamed, and whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.network import export
from refnet.network.reference_formats import Row, bibtex, citation_keys, csl, ris, split_name

TITLES = (
    "Attention: {is} all & 100% of $x_1$ ~you~ ^need^ #1 \\o/", '=HYPERLINK("x")', "]]> <b>&amp;\x01\x0b\uffff", "{{{", "}}}",
    'A "quoted", title\nof two lines', "+1", "-1", "@SUM(A1)", "BERT: a TLDR for mRNA", None, "文" * 300, "a\u202eb",
)  # fmt: skip


def paper(number: int, title: str | None, **more: object) -> Row:
    row: dict[str, object] = {
        "id": number, "title": title, "authors": ["Ada Lovelace", "Smith, John", "Salt and Pepper", "李 小龍"], "year": 2017,
        "venue": title or "", "types": ["JournalArticle"], "ids": {}, "doi": "10.1/a_b", "arxiv": None, "url": None,
        "reference_count": 3, "citation_count": None, "rank": 1, "pagerank": 0.5, "cited_by": 0, "detailed": True,
        "provenance": "x", "journal": {"volume": 3, "pages": "1–9"}, "abstract": title,
        "fields_of_study": ["Computer Science", "Art, and more"], "published_on": "2017-06-12",
        "label": "Ada Lovelace 2017", "people": [{"name": "Ada Lovelace", "orcid": "x"}],
    }  # fmt: skip
    return row | more


class Fixed(export.Rows):
    """Rows without a database."""

    def __init__(self) -> None:
        pass

    def papers(self) -> Iterator[Row]:
        return (paper(number, title) for number, title in enumerate(TITLES, 1))

    def references(self) -> Iterator[tuple[str, Row]]:
        return ((f"key{row['id']}", row) for row in self.papers())

    def citations(self) -> Iterator[Row]:
        yield {
            "citing": 1,
            "cited": 2,
            "influential": True,
            "intents": ["background", "result"],
            "contexts": ["=As <b>[1]</b> shows", "]]>"],
            "provenance": "x",
        }


def exported(name: str) -> dict[str, str]:
    return {file: "".join(texts(Fixed())) for file, texts in export.FORMATS[name].items()}


def entries(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Parse BibTeX strictly: kind, key and fields; every brace counts, escaped or not, as for BibTeX itself."""
    found, at = [], 0
    while head := re.compile(r"\s*@([a-z]+)\{([A-Za-z0-9-]+),\n").match(text, at):
        at, fields = head.end(), {}
        while line := re.compile(r"  ([a-z]+) = \{").match(text, at):
            begin = at = line.end()
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            fields[line[1]] = text[begin : at - 1]
            assert text[at : at + 2] == ",\n"
            at += 2
        assert text[at : at + 2] == "}\n"
        at += 2
        found.append((head[1], head[2], fields))
    assert not text[at:].strip()
    return found


def unescaped(value: str) -> str:
    value = re.sub(r"\\text(\w+)\{\}", lambda m: {"backslash": "\\", "asciitilde": "~", "asciicircum": "^", "braceleft": "\0", "braceright": "\1"}[m[1]], value)  # fmt: skip
    value = re.sub(r"\\([$&%#_])", r"\1", value)
    return re.sub(r"[{}]", "", value).replace("\0", "{").replace("\1", "}")


def test_bibtex_has_an_entry_for_each_paper_with_a_key_of_its_own() -> None:
    found = entries(exported("bibtex")["network.bib"])

    assert [key for _, key, _ in found] == [f"key{number}" for number in range(1, len(TITLES) + 1)]
    kind, _, fields = found[0]
    assert kind == "article"
    assert fields["author"] == "Ada Lovelace and Smith, John and {Salt and Pepper} and 李 小龍"
    assert (fields["doi"], fields["pages"], fields["volume"]) == ("10.1/a_b", "1--9", "3")
    assert fields["keywords"] == "Computer Science, Art and more"
    assert found[9][2]["title"] == "{BERT:} a {TLDR} for {mRNA}"
    assert not re.search(r"(?<!\\)[&%$#_~^]", found[0][2]["title"])


@given(st.text())
def test_no_title_breaks_an_entry_and_each_can_be_read_again(title: str) -> None:
    ((_, _, fields),) = entries(bibtex("key1", paper(1, title)))

    printable = "".join(one if one.isprintable() else " " for one in title)
    assert unescaped(fields.get("title", "")).split() == printable.split()


@pytest.mark.parametrize(
    ("types", "kind", "place"),
    [
        (["JournalArticle", "Conference"], "inproceedings", "booktitle"),
        (["Review"], "article", "journal"),
        (["Book"], "book", "publisher"),
        (["BookSection"], "incollection", "booktitle"),
        (["Dataset"], "misc", "howpublished"),
        ([], "misc", "howpublished"),
    ],
)
def test_the_types_of_a_paper_give_its_kind_of_entry(types: list[str], kind: str, place: str) -> None:
    ((found, _, fields),) = entries(bibtex("key1", paper(1, "T", types=types)))

    assert (found, fields[place]) == (kind, "T")


def test_a_doi_and_a_url_are_verbatim_and_end_no_field() -> None:
    row = paper(1, "T", doi="10.1/a_b{c}%23#~", url="https://x.org/a_b?c=%20{}\\&d")
    ((_, _, fields),) = entries(bibtex("key1", row))

    assert fields["doi"] == "10.1/a_b%7Bc%7D%23#~"
    assert fields["url"] == "https://x.org/a_b?c=%20%7B%7D%5C&d"


def test_a_key_is_author_year_and_word_and_depends_on_no_row_id() -> None:
    papers = [
        (5, "Ada Lovelace", 1843, "Notes on the Engine", "00000000000000000007"),
        (9, "Lovelace, Ada", 1843, "The notes", "00000000000000000003"),
        (1, "Łukasz Bruß-Çelik", 2017, "Attention's role", "a"),
        (2, None, None, None, ""),
        (3, "李 小龍", 2020, "注意", "b"),
    ]
    keys = citation_keys(papers)

    assert (keys[9], keys[1], keys[2], keys[3]) == (
        "lovelace1843notes",
        "celik2017attentions",
        "paper",
        "paper2020",
    )
    assert re.fullmatch(r"lovelace1843notes-[0-9a-f]{6}", keys[5])
    renumbered = citation_keys([(number + 100, *rest) for number, *rest in reversed(papers)])  # type: ignore[arg-type]
    assert {number + 100: key for number, key in keys.items() if number != 2} == {
        number: key for number, key in renumbered.items() if number != 102
    }


@given(st.lists(st.tuples(st.integers(), st.text() | st.none(), st.integers(1000, 2999) | st.none(), st.text() | st.none(), st.text()), unique_by=lambda one: one[0]))  # fmt: skip
def test_keys_are_different_and_plain(
    papers: list[tuple[int, str | None, int | None, str | None, str]],
) -> None:
    keys = citation_keys(papers)

    assert len({*keys.values()}) == len(keys) == len(papers)
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys.values())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ada Lovelace", ("Lovelace", "Ada")),
        ("Ludwig van Beethoven", ("van Beethoven", "Ludwig")),
        ("Smith, John", ("Smith", "John")),
        ("Plato", ("Plato", "")),
        ("", ("", "")),
    ],
)
def test_names_are_split_before_the_particle(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def test_csl_json_has_an_item_for_each_paper() -> None:
    items = json.loads(exported("csl-json")["network.csl.json"])

    assert [one["id"] for one in items] == [f"key{number}" for number in range(1, len(TITLES) + 1)]
    assert items[0]["issued"] == {"date-parts": [[2017, 6, 12]]}
    assert items[0]["author"][0] == {"family": "Lovelace", "given": "Ada"}
    assert (items[0]["type"], items[0]["DOI"], items[0]["page"]) == ("article-journal", "10.1/a_b", "1–9")


@given(st.text(), st.text())
def test_no_text_makes_another_line_of_ris_or_breaks_an_item(title: str, abstract: str) -> None:
    lines = ris("key1", paper(1, title, abstract=abstract)).rstrip("\n").split("\n")

    assert all(re.match(r"[A-Z][A-Z0-9]  - ", line) for line in lines)
    assert [line[:2] for line in lines if line[:2] in {"TY", "ER"}] == ["TY", "ER"]
    assert json.loads(csl("key1", paper(1, title, abstract=abstract)))["id"] == "key1"


def test_graphml_is_xml_with_every_paper_and_citation() -> None:
    root = ET.fromstring(exported("graphml")["network.graphml"])  # noqa: S314  # our own
    space = "{http://graphml.graphdrawing.org/xmlns}"

    nodes = root.findall(f".//{space}node")
    assert [node.get("id") for node in nodes] == [str(n) for n in range(1, len(TITLES) + 1)]
    titles = [node.findtext(f"{space}data[@key='node_title']") for node in nodes]
    assert titles[2] == "]]> <b>&amp;"
    assert titles[10] is None
    (edge,) = root.findall(f".//{space}edge")
    assert (edge.get("source"), edge.get("target")) == ("1", "2")
    assert {data.get("key") for data in root.iter(f"{space}data")} <= {
        key.get("id") for key in root.findall(f"{space}key")
    }


def test_csv_has_two_files_and_no_cell_that_spreadsheets_read_as_formulas() -> None:
    files = {name: list(csv.DictReader(io.StringIO(text))) for name, text in exported("csv").items()}

    assert [row["title"] for row in files["papers.csv"]][:9:6] == [TITLES[0], "'+1"]
    assert not any(
        cell.startswith(("=", "+", "-", "@")) for row in files["papers.csv"] for cell in row.values()
    )
    assert files["papers.csv"][5]["title"] == TITLES[5]
    assert files["citations.csv"] == [
        {
            "citing": "1",
            "cited": "2",
            "influential": "true",
            "intents": "background; result",
            "contexts": "'=As <b>[1]</b> shows; ]]>",
            "provenance": "x",
        }
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n"])
def test_no_begin_of_a_cell_makes_a_formula(begin: str) -> None:
    assert export._cell(f"{begin}1+1") == f"'{begin}1+1"
    assert export._cell(f"1{begin}") == f"1{begin}"


def test_json_is_one_document_with_one_line_for_each_paper() -> None:
    text = exported("json")["network.json"]
    found = json.loads(text)

    assert [row["title"] for row in found["papers"]] == list(TITLES)
    assert found["papers"][0]["authors"][3] == "李 小龍"
    assert found["citations"][0]["cited"] == 2
    assert len(text.splitlines()) >= len(TITLES) + 5
