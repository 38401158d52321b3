"""What a researcher has is read entry by entry: ids and titles, and what cannot be read with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.network import bibliography
from refnet.network.bibliography import Entry, read
from refnet.network.find_papers import Finder, is_same
from refnet.network.http_api import Api
from refnet.network.papers import FoundPaper

BIB = r"""% my library
@string{acl = "ACL"}
@Article{lovelace,
  Author = {Ada Lovelace}, Title = {{Notes} on the {\"O}ffice of \emph{Engines}}, YEAR = 1843,
  DOI = {https://doi.org/10.1/A\_b},
}

@misc{preprint, title = "A preprint", eprint = {2106.15928v2}, archivePrefix = {arXiv}, date = {2021-06-30}}
@article{broken, title = {Never closed
@inproceedings{lovelace, title = {The same key}, booktitle = acl, url = {https://arxiv.org/abs/2001.00003}}
@misc{nothing, note = {nothing here}}
@comment{jabref-meta: databaseType:bibtex;}
"""
RIS = """TY  - JOUR
AU  - Lovelace, Ada
TI  - Notes on the Engine
PY  - 1843/10/01
DO  - 10.1/a_b
ER  -\x20

TY  - CONF
T1  - No end of record
UR  - https://arxiv.org/abs/2106.15928
TY  - GEN
AU  - Nobody
ER  -\x20
"""


def entries(path: Path, text: str | bytes) -> tuple[list[Entry], list[str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read(path)
    return found.entries, found.problems


def test_bibtex_gives_ids_and_titles_and_one_broken_entry_spoils_no_other(tmp_path: Path) -> None:
    found, problems = entries(tmp_path / "library.bib", BIB)
    assert found == [
        Entry("line 3", "DOI:10.1/a_b", "Notes on the Office of Engines", 1843),
        Entry("line 8", "ARXIV:2106.15928", "A preprint", 2021),
        Entry("line 10", "ARXIV:2001.00003", "The same key", None),
    ]
    assert problems == [
        "line 9: the entry is not closed, is too long, or has no key",
        "line 11: no title, no DOI, no other id",
    ]


def test_ris_gives_ids_and_titles_with_the_line_of_each_record(tmp_path: Path) -> None:
    found, problems = entries(tmp_path / "library.ris", "\ufeff" + RIS.replace("\n", "\r\n"))
    assert found == [
        Entry("line 1", "DOI:10.1/a_b", "Notes on the Engine", 1843),
        Entry("line 8", "ARXIV:2106.15928", "No end of record", None),
    ]
    assert problems == ["line 11: no title, no DOI, no other id"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_a_file_of_an_older_reference_manager_keeps_its_accents(tmp_path: Path, encoding: str) -> None:
    text = "TY  - JOUR\r\nTI  - Études sur l'éducation à Genève\r\nER  - \r\n"
    found, problems = entries(tmp_path / "library.ris", text.encode(encoding))
    assert ([one.title for one in found], problems) == (["Études sur l'éducation à Genève"], [])


def test_one_broken_byte_spoils_no_accent_of_utf_8(tmp_path: Path) -> None:
    text = "TY  - JOUR\nTI  - Études\nER  - \nTY  - JOUR\nTI  - Broken X\nER  - \n"
    found, _ = entries(tmp_path / "library.ris", text.encode().replace(b"X", b"\xff"))
    assert [one.title for one in found] == ["Études", "Broken \ufffd"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_csl_json_and_the_json_of_zotero_are_read(tmp_path: Path, wrapped: bool) -> None:
    items = [
        {"id": "a", "DOI": "10.1/A", "title": "T", "issued": {"date-parts": [[2017, 6, 12]]}},
        {"id": "b", "title": "Only a title", "issued": {"raw": "about 1999"}},
        {"id": "c", "PMID": 19872477, "title": ["odd"]},
        "no item",
    ]
    found, problems = entries(tmp_path / "items.json", json.dumps({"items": items} if wrapped else items))
    assert found == [
        Entry("entry 1", "DOI:10.1/a", "T", 2017),
        Entry("entry 2", "", "Only a title", 1999),
        Entry("entry 3", "PMID:19872477", "odd", None),
    ]
    assert problems == ["entry 4: no title, no DOI, no other id"]


def test_the_csv_of_zotero_is_read(tmp_path: Path) -> None:
    text = '"Key","Item Type","Publication Year","Title","DOI","Url"\n"A","x","2017","A, ""B""\nC","10.1/a",""\n"B","x","","Other","","https://arxiv.org/abs/2106.15928"\n'
    found, problems = entries(tmp_path / "zotero.csv", text)
    assert found == [
        Entry("line 2", "DOI:10.1/a", 'A, "B" C', 2017),
        Entry("line 4", "ARXIV:2106.15928", "Other", None),
    ]
    assert problems == []


def test_entries_on_one_line_are_looked_up_each_by_its_own_id(tmp_path: Path) -> None:
    file = tmp_path / "library.bib"
    file.write_text("@misc{a, doi = {10.1/a}} @misc{b, doi = {10.1/b}} @misc{c, doi = {10.1/c}}")

    class Answers:
        def post(self, _path: str, _params: object, content: dict[str, list[str]]) -> list[object]:
            known = (one.removeprefix("DOI:") for one in content["ids"])
            return [
                {"paperId": None, "externalIds": {"DOI": one}, "title": one} if one != "10.1/b" else None
                for one in known
            ]

    found = Finder(cast(Api, Answers())).match(read(file))
    assert [one.id for one in found.candidates] == ["DOI:10.1/a", "DOI:10.1/c"]
    assert found.unmatched == ["line 1: Semantic Scholar does not know 'DOI:10.1/b'"]


def test_a_list_has_an_id_or_a_title_on_each_line(tmp_path: Path) -> None:
    found, problems = entries(
        tmp_path / "ids.txt", "# mine\n10.1/A\n\narXiv:2106.15928\nAttention is all you need\nx\n"
    )
    assert found == [
        Entry("line 2", "DOI:10.1/a", "", None),
        Entry("line 4", "ARXIV:2106.15928", "", None),
        Entry("line 5", "", "Attention is all you need", None),
    ]
    assert problems == ["line 6: no title, no DOI, no other id"]


def test_a_line_of_a_list_may_have_several_ids_and_a_sign_after_them(tmp_path: Path) -> None:
    found, problems = entries(
        tmp_path / "ids.txt", "  10.1/a, doi:10.1/b;\n10.1002/(SICI)1097;2-O;\n10.1/a and more\n"
    )
    assert [(one.where, one.id or one.title) for one in found] == [
        ("line 1", "DOI:10.1/a"), ("line 1", "DOI:10.1/b"), ("line 2", "DOI:10.1002/(sici)1097;2-o"), ("line 3", "10.1/a and more"),
    ]  # fmt: skip
    assert problems == []


def test_a_folder_gives_its_notes_with_an_id_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".obsidian").mkdir()
    (tmp_path / "sub" / "b.md").write_text(
        '---\ntitle: "B: the paper"\ndoi: "10.1/B"\nyear: 2001\n---\ntext\n'
    )
    (tmp_path / "a.md").write_text("---\narxiv: 2001.10000\n---\n")
    (tmp_path / ".obsidian" / "c.md").write_text("---\ndoi: 10.1/c\n---\n")
    (tmp_path / "plain.md").write_text("doi: 10.1/d\n")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    os.mkfifo(tmp_path / "fifo.md")
    assert read(tmp_path).entries == [
        Entry("a.md", "ARXIV:2001.10000", "", None),
        Entry("sub/b.md", "DOI:10.1/b", "B: the paper", 2001),
    ]


def test_what_has_no_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.bib").write_text("nothing here")
    os.mkfifo(tmp_path / "fifo.bib")
    for name, why in (
        ("empty.bib", "has no entry"),
        ("gone.bib", "is neither a file nor a folder"),
        ("fifo.bib", "is neither a file nor a folder"),
    ):
        with pytest.raises(RefnetError, match=f"(?i){why}"):
            read(tmp_path / name)


def test_too_many_entries_and_too_large_a_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ids.txt").write_text("10.1/a\n" * 10_001)
    with pytest.raises(RefnetError, match="more than 10,000 entries") as caught:
        read(tmp_path / "ids.txt")
    assert caught.value.code is Exit.USAGE
    monkeypatch.setattr(bibliography, "_LARGEST", 1 << 10)
    with pytest.raises(RefnetError, match="is larger than"):
        read(tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("title", "year", "same"),
    [
        ("Attention Is All You Need", 2017, True),
        ("attention is all you need.", None, True),
        ("Attention is al you need", 2018, True),
        ("Attention is all you need", 2007, False),
        ("Attention is not all you need", 2017, False),
        ("Something else", 2017, False),
    ],
)
def test_a_title_is_the_same_but_for_case_and_a_typing_error(
    title: str, year: int | None, same: bool
) -> None:
    paper = FoundPaper("semantic_scholar", title="Attention is all you need", year=2017)
    assert is_same(Entry("line 1", "", title, year), paper) is same
