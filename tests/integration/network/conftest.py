"""Real data, where this machine has it beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.shared_data import shared


@pytest.fixture
def cora_cites() -> Path:
    return shared("cora/cora.cites")
