"""What the design says of the tree is true of the tree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SOURCE = _ROOT / "src" / "refnet"
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
        assert [one for one in named if not (_SOURCE / one).is_file()] == [], way
        assert len(named) == len({*named}), way


def _uses(file: str) -> set[str]:
    """The modules that a file imports, and the templates that it names."""
    text = (_SOURCE / file).read_text()
    found = {f"web/templates/{name}" for name in re.findall(r"\w+\.html\.j2", text)}
    for node in ast.walk(ast.parse(text) if file.endswith(".py") else ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            found |= {f"{name.removeprefix('refnet.').replace('.', '/')}.py" for name in names}
    return found


def test_each_file_of_a_way_is_used_by_one_before_it_or_by_one_on_trust() -> None:
    chooses = [f"sources/{kind}/source.py" for kind in ("database", "folder")]
    for way, (files, trusted) in _ways().items():
        there = {use for file in (*chooses, *re.findall(_FILE, trusted)) for use in _uses(file)} | {*chooses}
        first, *others = re.findall(_FILE, files)
        there |= _uses(first)
        for one in others:
            assert one in there, f"{way}: what leads to {one}?"
            there |= _uses(one)
