"""What `refnet list --previous` prints."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran

from refnet.store.previous_records import DatabaseMark, MarkState, PreviousRecord, PreviousVersions


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


def test_a_previous_database_is_listed_while_refnets_own_server_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in {"HOME": "home", "BACKUP_DIR": "backups", "VAULT_DIR": "vault"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(tmp_path / value))
    monkeypatch.chdir(tmp_path)
    mark = DatabaseMark("refnet", MarkState.RESTORED, datetime(2020, 1, 1, tzinfo=UTC), "a", "7:9:7,8")
    record = PreviousRecord("74", "refnet_before_20200101_000000", 16384, "refnet", 16385, mark)
    PreviousVersions(tmp_path / "home" / "previous").add(record)

    code, out, _ = ran(["list", "--previous"], monkeypatch, capsys)
    assert code == 0
    assert "database refnet_before_20200101_000000" in out
    assert "stays: RefNet's own server is stopped: `refnet postgres start`" in out
    assert ran(["prune"], monkeypatch, capsys)[0] == 0
    assert len([*(tmp_path / "home" / "previous").iterdir()]) == 1
