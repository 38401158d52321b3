"""Printed recovery pages: their command works with every later version, word for word."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.command import Command
from tests.integration.test_golden import GOLDEN

_PAGES = sorted((GOLDEN / "pages").glob("page_*.txt"))
#: The store of the golden pages that is a folder; a test puts it elsewhere.
_STORE = "file:///srv/golden-copies"


def commands(page: Path) -> list[list[str]]:
    """The words of each `refnet recover` on the page."""
    text = page.read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^ *(refnet recover .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_the_command_of_a_printed_page_finds_the_copies(page: Path, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "remote2" / "copies", tmp_path / "copies")
    for one in (tmp_path / "copies", *(tmp_path / "copies").rglob("*")):
        one.chmod(0o700 if one.is_dir() else 0o600)
    key = tmp_path / "key"
    key.write_text(
        "".join(re.findall(r"^recovery key +(\S.*)$", page.read_text(), re.MULTILINE)).replace(" ", "")
    )
    key.chmod(0o600)
    refnet = Command(tmp_path / "home", tmp_path / "backups", "none")
    (words,) = (one for one in commands(page) if _STORE in one)
    words = [one.replace(_STORE, f"file://{tmp_path}/copies") for one in words]
    planned = refnet(*words[1:], "--identity-file", key, "--plan", "--json")
    assert planned.code in {0, 1}, planned.err  # no settings name the database here
    fetched = {one["source"] for one in planned.json["fetch"]["copies"]}
    assert fetched == {"database", "config", "obsidian"}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_each_command_of_a_printed_page_is_understood(page: Path, tmp_path: Path) -> None:
    refnet = Command(tmp_path / "home", tmp_path / "backups", "none")
    found = commands(page)
    assert len(found) == 3
    for words in found:
        done = refnet(*words[1:], "--help")
        assert done.code == 0, done.err
        assert "Restore every source after a loss" in done.out
