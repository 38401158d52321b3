"""What `refnet settings` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.cli.settings import show
from refnet.settings import keys, load, variable


def test_names_are_whole_where_no_terminal_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"REFNET_HOME": str(tmp_path / "a" / ("long" * 30))}
    show(load(environment, tmp_path, root=False, cores=2))
    shown = capsys.readouterr().out
    assert environment["REFNET_HOME"] in shown
    for key in keys():
        assert f" {variable(key)} " in shown.replace("\n", " \n")


def test_the_settings_file_and_what_says_the_configuration_s_folder_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"REFNET_HOME": str(tmp_path / "home")}
    show(load(environment, tmp_path, root=False, cores=2))
    assert "settings file: none" in capsys.readouterr().out
    (tmp_path / "refnet.toml").write_text("jobs = 1\n")
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    show(load(environment, tmp_path, root=False, cores=2))
    shown = capsys.readouterr().out
    assert f"settings file: {tmp_path / 'refnet.toml'}" in shown
    assert f"the Compose file {tmp_path / 'docker-compose.yml'}" in shown
