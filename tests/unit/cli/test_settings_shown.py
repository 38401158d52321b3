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
