"""What a command prints of an error and of a report, whatever these quote."""

from __future__ import annotations

import json

import pytest

from refnet.cli.context import note, print_json
from refnet.cli.output import complain
from refnet.core.errors import RefnetError


def test_what_an_error_quotes_steers_no_terminal_and_makes_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complain(RefnetError("no \x1b[2Jname\nrefnet: all is well", "look at \ud800\x9b"))
    note("a\rb")
    told = capsys.readouterr().err
    assert told.count("\n") == 3
    assert all(line.isprintable() for line in told.splitlines())


def test_a_report_with_a_name_that_is_no_utf_8_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"論文": "a\udcff.md"})
    told = capsys.readouterr().out
    assert json.loads(told.encode()) == {"論文": "a\udcff.md"}
    assert "論文" in told
