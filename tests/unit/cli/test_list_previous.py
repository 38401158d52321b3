"""What `refnet list --previous` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran


def test_a_source_that_the_settings_do_not_name_any_more_hinders_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("text\n")
    settings = tmp_path / "refnet.toml"
    settings.write_text(f'[folders.notes]\npath = "{tmp_path / "notes"}"\n')
    settings.chmod(0o600)
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups", "VAULT_DIR": "vault"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(tmp_path / value))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.chdir(tmp_path)
    assert ran(["backup", "notes", "--no-prove"], monkeypatch, capsys)[0] == 0
    settings.write_text("")

    code, out, error = ran(["list", "--previous"], monkeypatch, capsys)

    assert (code, error) == (
        0,
        "refnet: note: notes is not configured, so its previous versions are not listed\n",
    )
    assert "There is no previous version" in out
    assert ran(["list", "notes", "--previous"], monkeypatch, capsys)[0] == 2


def test_each_previous_version_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "vault").mkdir()
    note = tmp_path / "vault" / "a.md"
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups", "VAULT_DIR": "vault"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(tmp_path / value))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.chdir(tmp_path)
    note.write_text("text\n")
    assert ran(["backup", "obsidian", "--no-prove"], monkeypatch, capsys)[0] == 0
    note.write_text("changed\n")
    assert ran(["restore", "obsidian", "--force"], monkeypatch, capsys)[0] == 0

    code, out, _ = ran(["list", "--previous"], monkeypatch, capsys)

    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("obsidian")]) == 1
