"""Options of a restore to another place that do not fit together end with 2, before anything is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--as x --to postgresql://other/y", "--as and --to exclude each other"),
        ("--as x --table papers", "exclude --as"),
        ("--to postgresql://other/y --table papers --mode missing", "exclude --to"),
        (f"--as {'x' * 64}", "longer than 63 bytes"),
        ("--merge", "for folders only"),
        ("--only a.md", "for folders only"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/live")
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    code, out, err = ran(["restore", "database", *arguments.split()], monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (f"shop --as {'x' * 64}", "longer than 63 bytes"),
        ("shop --merge", "for folders only; shop is a database"),
        ("notes --as x", "for databases only; notes is a folder"),
    ],
)
def test_the_kind_of_a_named_source_decides_which_options_fit(
    arguments: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "refnet.toml"
    file.write_text(
        f'home = "{tmp_path}/home"\nlog.folder = "none"\n[folders.notes]\npath = "{tmp_path}/notes"\n'
        '[databases.shop]\nurl = "postgresql://nobody@127.0.0.1:1/shop"\n'
    )
    file.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    code, _, err = ran(["--config", str(file), "restore", *arguments.split()], monkeypatch, capsys)
    assert (code, told in err) == (2, True), err
