"""Tests marked `thorough` run with --all; without it the run names them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.documents import ROOT

_TESTS = """\
import pytest

@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.thorough)])
def test_it(kills):
    pass
"""


def _run(folder: Path, *words: str) -> str:
    (folder / "test_file.py").write_text(_TESTS)
    options = ("-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-p", "tests.thorough")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *words, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("processes", ["0", "2"])
def test_it_is_left_out_by_name(tmp_path: Path, processes: str) -> None:
    said = _run(tmp_path, "--numprocesses", processes)
    assert "1 passed" in said
    assert said.count("left out without --all: test_file.py::test_it[10]") == 1


def test_all_runs_it(tmp_path: Path) -> None:
    said = _run(tmp_path, "--all")
    assert "2 passed" in said
    assert "left out" not in said
