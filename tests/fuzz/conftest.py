"""A folder for readers of files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.memory import in_memory


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fresh folder in memory, the same one for every example of a test."""
    path = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    yield path
    shutil.rmtree(path)
