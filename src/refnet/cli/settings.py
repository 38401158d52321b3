"""`refnet settings`."""

import shlex
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from refnet.actions.context import examine_settings
from refnet.cli import options
from refnet.cli.context import complain, print_json, warn
from refnet.errors import Exit
from refnet.recovery.model.formatting import plain
from refnet.settings import Examined, Settings, all_keys, keys, variable
from refnet.settings.stores import STORES
from refnet.settings.times import OFF, parse_schedule

#: Columns of output that goes to no terminal, so that no value is wrapped.
_WIDE = 1000


def settings(as_json: options.Json = False) -> None:
    """Print every setting and its origin.

    All problems are listed, and secrets are hidden. Ends with 2 if a setting is wrong.
    """
    found = examine_settings()
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
    for each in _report(found)["settings"]:
        value = "not set" if each["value"] is None else each["value"]
        shown = (
            "INVALID" if not each["valid"] else ", ".join(value) if isinstance(value, list) else str(value)
        )
        table.add_row(*map(plain, (each["key"], shown, each["from"], each["variable"])))
    console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)
    console.print(table)
    print(f"settings file: {found.settings.file or 'none'}")


def _value(settings: Settings, key: str, name: str) -> tuple[Any, str]:
    """Return the value of `key`, and the key whose value it has by default, or ""."""
    if key in keys():
        return getattr(settings, name), ""
    table, source, last = key.split(".")
    if table == STORES:
        store = settings.stores[source]
        by_url = store.url and last in dict(store.url.options) and key not in settings.origins
        return getattr(store, name), f"{table}.{source}.url" if by_url else ""
    standard = "obsidian" if table == "folders" else "database"
    default = {"min_bytes": "monitor.min_bytes", "one_file_system": "one_file_system"}
    default |= {each: f"{each}.{standard}" for each in ("schedule", "retention")}
    default |= {f"shrunk_{each}": f"shrunk.{each}" for each in ("tables", "rows", "bytes", "files")}
    return getattr(settings.of(source), name), default.get(last, "")


def _report(found: Examined) -> dict[str, Any]:
    """Return the settings and their problems as values of JSON; an invalid setting and one that is not set are null."""
    wrong = {problem.key for problem in found.problems}
    listed = []
    for key, field in all_keys(found.settings.named).items():
        value, origin = (None, "") if key in wrong else _value(found.settings, key, field.name)
        if field.metadata["secret"] and value:
            value = "(hidden)"
        elif isinstance(value, tuple):
            value = [shlex.join(one) if isinstance(one, tuple) else one for one in value]
        elif value is None and field.metadata["convert"] is parse_schedule:
            value = OFF
        elif not isinstance(value, int | None):
            value = str(value)
        listed.append(
            {
                "key": key,
                "value": value,
                "valid": key not in wrong,
                "from": found.settings.origins.get(key, origin or "the default"),
                "variable": variable(key),
            }
        )
    problems = [{"key": one.key, "message": one.message, "hint": one.hint} for one in found.problems]
    return {
        "file": found.settings.file and str(found.settings.file),
        "settings": listed,
        "problems": problems,
    }
