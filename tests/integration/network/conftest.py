"""Real data, where this machine has it beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cora_cites() -> Path:
    root = Path(__file__).parents[3]
    for folder in (root.parent, root.parent.parent):
        file = folder / "shared/data/cora/cora.cites"
        if file.is_file():
            return file
    pytest.skip("shared/data/cora/cora.cites is not here")
