"""deploy/handles.py: root among files that containers write."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def handles() -> ModuleType:
    spec = importlib.util.spec_from_file_location("handles", ROOT / "deploy" / "handles.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_folders_that_a_container_nests_very_deep_are_refused_by_name(
    handles: ModuleType, tmp_path: Path
) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(70):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)

    with (
        handles.entered(tmp_path) as folder,
        pytest.raises(handles.FailedError, match="is deeper than what RefNet writes"),
    ):
        handles.give_all(folder, os.geteuid())
