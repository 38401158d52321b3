"""What the design says of the tree is true of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MODULES = [path.as_posix() for path in (_ROOT / "src").rglob("*.py")]
_DOCUMENTS = sorted((_ROOT / "docs" / "design").glob("*.md"))


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda one: one.name)
def test_every_module_that_the_design_names_exists(document: Path) -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", document.read_text()))
    assert [one for one in sorted(named) if not any(path.endswith(f"/{one}") for path in _MODULES)] == []


_FILE = r"`((?:\w+/)+\w+\.(?:py|html\.j2))`"


def _ways() -> dict[str, tuple[str, str]]:
    """The ways of the table: the files to open, and those on trust."""
    text = (_ROOT / "docs" / "design" / "README.md").read_text().partition("## Eight ways")[2]
    rows = re.findall(r"^\| ((?:a|the) [^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {way: (files, trusted) for way, files, trusted in rows}


def test_each_way_from_a_request_to_the_disk_is_at_most_eight_files() -> None:
    found = {way: len(re.findall(_FILE, files)) for way, (files, _) in _ways().items()}
    assert len(found) == 8
    assert max(found.values()) <= 8, found


def test_every_file_of_a_way_is_at_its_path_and_named_once() -> None:
    for way, columns in _ways().items():
        named = re.findall(_FILE, " ".join(columns))
        assert [one for one in named if not (_ROOT / "src" / "refnet" / one).is_file()] == [], way
        assert len(named) == len({*named}), way
