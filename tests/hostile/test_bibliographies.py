"""Bibliographies from anywhere: what would take a parser's time, memory or stack is read or refused, in bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fuzz.harness import outcome

from refnet.network.bibliography import read

BOMBS = {
    "deep.bib": "@article{k, title = {" + "{" * 200_000 + "}" * 200_000 + "}}",
    "open.bib": "@article{k, title = {" + "{" * 200_000,
    "lines.bib": "@article{k, title = {" + "\n" * 200_000 + "}, doi = {10.1/a}}",
    "strings.bib": "".join(f"@string{{s{n} = s{n + 1} # s{n + 1}}}\n" for n in range(500))
    + "@article{k, title = s0}",
    "heads.bib": "@article{\n" * 9_000,
    "many.bib": "@a{\n" * 1_000_000,
    "fields.bib": "@article{k, " + "title = {x}, " * 20_000 + "}",
    "accents.bib": "@article{k, title = {" + '\\"' * 100_000 + " " * 100_000 + "}}",
    "quotes.bib": '@article{k, title = "' + '{"}' * 100_000,
    "spaces.bib": "@article{k, title = {T}" + " " * 2_000_000 + "}",
    "ats.bib": "@" * 1_000_000,
    "tags.ris": "TY  - JOUR\n" + "AU  - " + "x" * 100 + "\n" + "  - y\n" * 100_000 + "ER  - \n",
    "records.ris": "TY  - \n" * 9_000,
    "deep.json": "[" * 100_000,
    "items.json": json.dumps([{"title": {"a": [[[[["x"]]]]]}, "DOI": ["10.1/a"] * 10_000}] * 20),
    "columns.csv": "a," * 300_000 + "\n" + "x\n" * 2000,
    "cell.csv": 'DOI,Title\n10.1/a,"' + "x" * 300_000 + '"\n',
    "line.txt": "x " * 2_000_000,
    "nul.bib": "@article{k\0, title = {\0}, doi = {10.1/\0}}\x1b[2J",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bibliography_that_is_a_bomb_is_read_or_refused_in_bounds(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(BOMBS[name])
    found = outcome(lambda: read(tmp_path / name))
    for entry in found.entries if found else ():
        assert not {*"\n\0\x1b"} & {*entry.title}
        assert len(entry.title) <= 4000
    assert all(len(one) < 2000 for one in (found.problems if found else ()))
