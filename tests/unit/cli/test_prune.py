"""What `refnet prune` prints."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from refnet.cli.prune import prune
from refnet.core.errors import Exit


def test_a_url_without_a_database_is_reported_once_and_blocks_no_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(tmp_path / "backups"))
    monkeypatch.setenv("REFNET_DATABASE_URL", "postgresql://u@h")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(typer.Exit) as ended:
        prune()

    printed = capsys.readouterr()
    assert ended.value.exit_code == Exit.USAGE
    assert "deleted 0" in printed.out
    assert printed.err.count("names no database") == 1
