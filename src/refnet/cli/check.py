"""`refnet check`: check everything that backup, restore and recovery need."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from refnet.actions.check import check as run
from refnet.cli import options, render
from refnet.cli.context import print_json
from refnet.cli.output import output
from refnet.sources.check_result import CheckLine


def check(as_json: options.Json = False) -> None:
    """Check all that backup, restore and recovery need.

    Ends with 0 ok, 1 warning, 2 error.
    """
    checked = run(output.variables)
    if as_json:
        print_json(checked.to_json())
    else:
        print_lines(checked.lines)
        print(f"overall: {checked.state.upper()}")
    raise typer.Exit(checked.state.exit)


def print_lines(lines: Iterable[CheckLine]) -> None:
    """Print each check, with its hint below."""
    rows = [("status", "check", "")]
    for line in lines:
        rows.append((line.state.upper(), line.what, line.says))
        rows += [("", "", line.hint)] if line.hint else []
    render.print_columns(rows)
