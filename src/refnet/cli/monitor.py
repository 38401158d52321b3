"""`refnet monitor`: report whether everything is protected. Exit codes of monitoring plugins: 0 ok, 1 warning, 2 critical, 3 unknown."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions.monitor import monitor as run
from refnet.catalog.monitoring import worst
from refnet.catalog.source_name import SourceName
from refnet.cli import options, render
from refnet.cli.completion import source_name
from refnet.cli.context import context, print_json
from refnet.cli.output import complain
from refnet.core.errors import Exit, RefnetError
from refnet.wiring import gone, known, not_configured

_UNKNOWN = 3


def monitor(
    source: Annotated[
        SourceName | None,
        typer.Argument(metavar="SOURCE", help="This source; default: all.", **source_name(Exit(_UNKNOWN))),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the copies in this remote store.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Report whether every source is protected.

    Ends with 0 ok, 1 warning, 2 critical, 3 unknown.
    """
    try:
        raise typer.Exit(_monitor(source, store, as_json=as_json))
    except RefnetError as error:
        complain(error)
        raise typer.Exit(_UNKNOWN) from error


def _monitor(source: SourceName | None, store: str | None, *, as_json: bool) -> int:
    here = context()
    if source and source not in (
        *known(here.settings),
        *gone(here.settings),
    ):  # its artifacts are still there
        raise not_configured(here.settings, source)
    found = run(here, source)
    checks, overview = found.checks, found.to_json() if source is store is None else {}
    if store:
        name = here.settings.store(store).name
        checks = tuple(one for one in checks if one.what in {f"copy {name}", f"store {name}"})
    status = worst(checks)
    if as_json:
        print_json({"status": status, "checks": [check.to_json() for check in checks], **overview})
    else:
        rows = [(c.status.upper(), c.source or "store", c.what, c.says) for c in checks]
        render.print_columns([("status", "source", "check", ""), *rows])
        print(f"overall: {status.upper()}")
    return status.exit
