"""A machine that cuts artifacts as usual, but into blocks and pieces of a fraction of the usual size."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.remote_store import Machine, cut_finely
from tests.shared_pieces import SCALE, fixed_cuts


@pytest.fixture
def fine_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_finely(monkeypatch, SCALE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return fixed_cuts(tmp_path / "home")
