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


def test_each_way_from_a_command_to_the_disk_is_at_most_eight_files() -> None:
    text = (_ROOT / "docs" / "design" / "README.md").read_text().partition("## Six ways")[2]
    ways = re.findall(r"^\| ((?:a|the) [^|]+) \| (.+) \|$", text, re.MULTILINE)
    found = {way: len(re.findall(r"`(?:\w+/)+\w+\.(?:py|j2|html\.j2)`", files)) for way, files in ways}
    assert len(found) == 6
    assert max(found.values()) <= 8, found
