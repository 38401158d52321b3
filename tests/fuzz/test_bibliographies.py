"""Bibliographies, changed as people, disks and attackers change them, and the searches of a hostile provider."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, documents
from tests.fuzz.test_papers import PAPER
from tests.unit.network.test_bibliography import BIB, RIS

from refnet.network import scholar_answers
from refnet.network.bibliography import read
from refnet.network.crawls import seed_id
from refnet.network.papers import AnswerError

ITEMS = [{"DOI": "10.1/a", "title": "T", "issued": {"date-parts": [[2017]]}, "PMID": 7}, {"title": "U"}]
FILES = {
    ".bib": BIB.encode(),
    ".ris": RIS.encode(),
    ".json": json.dumps(ITEMS).encode(),
    ".csv": b'"Title","DOI"\n"A","10.1/a"\n',
    ".txt": b"10.1/a\nAttention is all you need\n",
    ".md": b'---\ntitle: "T"\ndoi: 10.1/a\n---\ntext #tag\n',
}


@pytest.mark.parametrize("ending", FILES)
@fuzzed
@given(data=st.data())
def test_a_damaged_bibliography_gives_ids_and_lines_or_one_error(ending: str, data: st.DataObject) -> None:
    content = data.draw(documents(ITEMS, FILES[ending]) if ending == ".json" else damaged(FILES[ending]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"library{ending}")
        path.write_bytes(content)
        found = outcome(lambda: read(path.parent if ending == ".md" else path))
    for entry in found.entries if found else ():
        assert not {*"\n\0\x1b"} & {*entry.title}
        assert entry.id or entry.title
        assert not entry.id or seed_id(entry.id) == entry.id
    assert all(0 < len(one) < 2000 for one in (found.problems if found else ()))


@fuzzed
@given(documents({"total": 1, "data": [PAPER]}, json.dumps({"total": 1, "data": [PAPER]}).encode()))
def test_a_search_gives_papers_with_an_id_or_one_error(data: bytes) -> None:
    def searched() -> Any:
        return scholar_answers.found(json.loads(data))

    found = outcome(searched, AnswerError, ValueError, RecursionError)
    assert all(one.ids for one in found or ())
