"""What is advised where isolation layers are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.postgres.walls import advice


def test_what_is_installed_is_not_advised_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert advice() == "Install bubblewrap"
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    assert "bubblewrap to create user namespaces, which this kernel or container forbids" in advice()
