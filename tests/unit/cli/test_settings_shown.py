"""What `refnet settings` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.cli.settings import show
from refnet.settings import examine, keys, variable


def test_names_are_whole_where_no_terminal_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"REFNET_HOME": str(tmp_path / "a" / ("long" * 30))}
    show(examine(environment, tmp_path, root=False, cores=2))
    shown = capsys.readouterr().out
    assert environment["REFNET_HOME"] in shown
    for key in keys():
        assert f" {variable(key)} " in shown.replace("\n", " \n")


def test_the_settings_file_and_the_origin_of_the_config_folder_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"REFNET_HOME": str(tmp_path / "home")}
    show(examine(environment, tmp_path, root=False, cores=2))
    assert "settings file: none" in capsys.readouterr().out
    (tmp_path / "refnet.toml").write_text("jobs = 1\n")
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    show(examine(environment, tmp_path, root=False, cores=2))
    shown = capsys.readouterr().out
    assert f"settings file: {tmp_path / 'refnet.toml'}" in shown
    assert f"the Compose file {tmp_path / 'docker-compose.yml'}" in shown


def test_a_value_with_the_signs_of_markup_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"REFNET_HOME": str(tmp_path / "home"), "REFNET_VAULT_DIR": "/srv/[bold]x[/y]:cat:"}
    show(examine(environment, tmp_path, root=False, cores=2))
    assert "/srv/[bold]x[/y]:cat:" in capsys.readouterr().out
