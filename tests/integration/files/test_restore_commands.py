"""`refnet restore` of folders as a user types it: another source's artifact, patterns, another folder, a merge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran

Refnet = Callable[..., tuple[int, str, str]]


@pytest.fixture
def refnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Refnet:
    """Runs a command on a vault with three notes and a configuration, both backed up."""
    for name in ("vault/a.md", "vault/b.md", "vault/deep/c.md", "config/docs/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    values = {"HOME": "home", "BACKUP_DIR": "backups", "VAULT_DIR": "vault", "CONFIG_DIR": "config"}
    for variable, folder in values.items():
        monkeypatch.setenv(f"REFNET_{variable}", str(tmp_path / folder))
    monkeypatch.setenv("REFNET_CONFIG_ENTRIES", "docs/")
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        return ran([*arguments], monkeypatch, capsys)

    for source in ("obsidian", "config"):
        assert run("backup", source, "--no-prove")[0] == 0
    return run


def names(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_another_sources_artifact_is_restored_only_if_from_names_it(refnet: Refnet, tmp_path: Path) -> None:
    artifact = next(one.name for one in (tmp_path / "backups" / "config").glob("*.tar.gz"))
    code, _, err = refnet("restore", "obsidian", artifact, "--force")
    assert (code, "or into obsidian with --source config" in err) == (2, True)
    for other, told in (("nowhere", "not a source"), ("database", "a database, and obsidian is a folder")):
        code, _, err = refnet("restore", "obsidian", "--from", other)
        assert (code, told in err) == (2, True)
    assert "it is an artifact of config" in refnet("restore", "obsidian", "--from", "config", "--plan")[1]
    assert names(tmp_path / "vault") == ["a.md", "b.md", "deep/c.md"]
    assert refnet("restore", "obsidian", "--from", "config", "--force")[0] == 0
    assert names(tmp_path / "vault") == ["docs/d.md"]
    assert refnet("undo", "obsidian", "--force")[0] == 0
    assert names(tmp_path / "vault") == ["a.md", "b.md", "deep/c.md"]
    assert refnet("restore", "config", "--from", "vault", "--to", "copy", "--force")[0] == 0
    assert names(tmp_path / "copy") == ["a.md", "b.md", "deep/c.md"]


def test_several_only_options_combine_and_an_unmatched_one_is_an_error(
    refnet: Refnet, tmp_path: Path
) -> None:
    for name in ("a.md", "b.md", "deep/c.md"):
        (tmp_path / "vault" / name).unlink()
    code, _, err = refnet("restore", "obsidian", "--only", "a.md", "--only", "deep/x*.md")
    assert (code, "Did you mean deep/c.md" in err) == (2, True)
    assert "deep/x*.md matches nothing in the artifact vault_2" in err
    assert refnet("restore", "obsidian", "--only", "a.md", "--only", "c*")[0] == 0
    assert names(tmp_path / "vault") == ["a.md", "deep/c.md"]


def test_a_merge_asks_only_before_something_older_is_replaced(refnet: Refnet, tmp_path: Path) -> None:
    (tmp_path / "vault" / "a.md").unlink()
    assert refnet("restore", "obsidian", "--merge")[0] == 0
    (tmp_path / "vault" / "b.md").write_text("newer")
    code, out, _ = refnet("restore", "obsidian", "--merge", "--plan", "--json")
    assert (code, json.loads(out)["merge"]) == (0, [{"path": "b.md", "action": "keep newer"}])
    assert refnet("restore", "obsidian", "--merge")[0] == 0
    assert (tmp_path / "vault" / "b.md").read_text() == "newer"


def test_a_folder_that_is_not_configured_can_still_be_restored_elsewhere(
    refnet: Refnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFNET_CONFIG_DIR")
    assert refnet("restore", "config")[0] == 2
    assert refnet("restore", "config", "--to", "out")[0] == 0
    assert names(tmp_path / "out") == ["docs/d.md"]
