"""`refnet settings`."""

import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from refnet.cli import options
from refnet.cli.context import print_json, warn
from refnet.cli.output import complain, output
from refnet.context import examine_settings
from refnet.core.errors import Exit
from refnet.core.formatting import plain
from refnet.settings import Examined
from refnet.settings.report import report, text_of

#: Columns of output that goes to no terminal, so that no value is wrapped.
_WIDE = 1000


def settings(as_json: options.Json = False) -> None:
    """Print every setting and its origin.

    All problems are listed, and secrets are hidden. Ends with 2 if a setting is wrong.
    """
    found = examine_settings(output.variables)
    warn(found.settings.warnings)
    if as_json:
        print_json(_report(found))
    else:
        show(found)
    for problem in found.problems:
        complain(problem.error)
    if found.problems:
        raise typer.Exit(Exit.USAGE)


def show(found: Examined) -> None:
    """Print a table: key, value, origin, variable."""
    table = Table("setting", "value", "from", "variable", box=None, pad_edge=False)
    for each in report(found):
        shown = text_of(each.value) if each.valid else "INVALID"
        table.add_row(*map(plain, (each.key, shown, each.origin, each.variable)))
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)
    console.print(table)
    print(f"settings file: {found.settings.file or 'none'}")


def _report(found: Examined) -> dict[str, Any]:
    """Settings and problems as JSON values; invalid and unset settings are null."""
    problems = [{"key": one.key, "message": one.message, "hint": one.hint} for one in found.problems]
    return {
        "file": found.settings.file and str(found.settings.file),
        "settings": [one.to_json() for one in report(found)],
        "problems": problems,
    }
