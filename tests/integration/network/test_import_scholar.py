"""`refnet import semantic-scholar` against a real server: each file once, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import shared

from refnet.core.errors import RefnetError
from refnet.network.importing import ImportedScholar, import_scholar, read_scholar
from refnet.postgres.session import Target


@pytest.fixture
def target(migrated: Target) -> Target:
    with migrated.connect() as connection:
        connection.execute("TRUNCATE papers, authors CASCADE")
    return migrated


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "paper.json"


def one(name: str, **values: Any) -> dict[str, Any]:
    return {"paperId": name * 40, "title": f"Title of {name}", **values}


def imported(target: Target, file: Path, value: object) -> ImportedScholar:
    file.write_text(json.dumps(value))
    return import_scholar(target, read_scholar(file))


def test_the_recorded_paper_is_imported_once_with_all_its_citations(target: Target) -> None:
    papers = read_scholar(shared("semantic_scholar/Paper.json"))

    assert import_scholar(target, papers) == ImportedScholar(1, 1014, 1015, 1014, 0)
    assert import_scholar(target, papers) == ImportedScholar(1, 1014, 0, 0, 0)
    with target.connect() as connection:
        ends = connection.execute("""
            SELECT count(*) FILTER (WHERE citing.title = 'Computing Machinery and Intelligence'),
                count(*) FILTER (WHERE cited.title = 'Computing Machinery and Intelligence')
            FROM citations JOIN papers AS citing ON citing.id = citing_id JOIN papers AS cited ON cited.id = cited_id
            """).fetchone()
        titles = connection.execute(
            "SELECT count(title_key), count(DISTINCT title_key) FROM papers"
        ).fetchone()
    assert ends == (14, 1000)
    assert titles == (6, 6)


def test_a_list_of_papers_with_an_unknown_one_is_imported(target: Target, file: Path) -> None:
    papers = [
        one("a", references=[one("b"), {"paperId": None, "title": "C"}]),
        None,
        one("b", citations=[one("a")]),
    ]

    assert imported(target, file, papers) == ImportedScholar(2, 3, 3, 2, 0)
    assert imported(target, file, papers[::-1]) == ImportedScholar(2, 3, 0, 0, 0)


def test_what_has_a_wrong_type_is_left_out_and_counted(target: Target, file: Path) -> None:
    ends = [one("b", year="1999"), one("a"), "nonsense", None, {"paperId": None, "title": None}]

    assert imported(target, file, one("a", references=ends, citations=None)) == ImportedScholar(1, 2, 2, 1, 3)


def test_a_paper_cited_ten_thousand_times_is_imported(target: Target, file: Path) -> None:
    citations = [{"paperId": f"{number:040x}", "title": f"T {number}"} for number in range(10_000)]

    assert imported(target, file, one("a", citations=citations)) == ImportedScholar(
        1, 10_000, 10_001, 10_000, 0
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("5", "entry 1: not a JSON object"),
        ("[{}]", "entry 1: neither `paperId` nor `title`"),
        ('[null, {"title": "A"}, 7]', "entry 3: not a JSON object"),
        ('{"data": [], "offset": 0}', "entry 1: neither"),
        ('{"title": "A", "citations": {}, "references": []}', ""),
        ('{"title": "A", "citations": "x"}', "entry 1: `citations` is not a list of at most 10,000 papers"),
        (f'{{"title": "A", "references": [{"5," * 10_000}5]}}', "entry 1: `references` is not a list"),
    ],
)
def test_what_is_no_recorded_paper_is_a_clear_error(file: Path, content: str, fault: str) -> None:
    file.write_text(content)
    if not fault:
        assert len(read_scholar(file)) == 1
        return
    with pytest.raises(RefnetError, match=f"paper.json[:,] {fault}") as refused:
        read_scholar(file)
    assert "Nothing was imported." in refused.value.hint


def test_a_file_that_is_too_large_is_not_read_into_memory(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(RefnetError, match="longer than 67108864"):
        read_scholar(file)
