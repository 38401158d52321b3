"""The ratchet of the tree's size."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.tree import counted, main, over


def _clone(folder: Path, *, statements: int) -> Path:
    for name in ("src", "tests"):
        (folder / name).mkdir()
    (folder / "src" / "one.py").write_text('"""Text."""\nx = 1\ny = 2\n')
    (folder / "tests" / "test_one.py").write_text("x = 1\n\n")
    limits = f"[tool.refnet.tree]\nstatements = {statements}\nfiles = 1\ntest_lines = 2\n"
    (folder / "pyproject.toml").write_text(limits)
    return folder


def test_statements_files_and_lines_of_tests_are_counted(tmp_path: Path) -> None:
    assert counted(_clone(tmp_path, statements=3))[1] == {"statements": 3, "files": 1, "test_lines": 2}


def test_a_tree_at_its_limits_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_clone(tmp_path, statements=3))
    assert main() == 0


def test_a_tree_over_a_limit_fails_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(_clone(tmp_path, statements=2))
    assert main() == 1
    assert "statements: 3 is over the limit of 2" in capsys.readouterr().err


def test_a_count_without_a_limit_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(over({"statements": 1}, {}))
