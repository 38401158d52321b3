"""The errors of a backup of several sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refnet.cli.main import app


def test_each_error_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "refnet.toml"
    settings.write_text(
        f"""backup_dir = "{tmp_path}/b"
[databases.shop]
url = "postgresql://u@/x?host={tmp_path}"
[databases.wiki]
url = "postgresql://u@/y?host={tmp_path}"
"""
    )
    settings.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    done = CliRunner().invoke(app, ["backup", "--no-prove"])
    for name in ("shop", "wiki"):
        assert f"refnet: {name}: no PostgreSQL server answers" in done.stderr
        assert f"fix host and port in databases.{name}.url." in done.stderr
