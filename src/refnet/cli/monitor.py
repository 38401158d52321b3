"""`refnet monitor`: is everything protected? Ends as monitoring plugins do: 0 ok, 1 warning, 2 critical, 3 unknown."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.cli import render
from refnet.cli.context import complain, context, print_json
from refnet.errors import RefnetError

_UNKNOWN = 3


def monitor(
    source: Annotated[str | None, typer.Argument(help="database, config or obsidian; none: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Say whether every source is protected. Ends with 0 ok, 1 warning, 2 critical, 3 unknown."""
    try:
        raise typer.Exit(_monitor(source, as_json=as_json))
    except RefnetError as error:
        complain(error)
        raise typer.Exit(_UNKNOWN) from error


def _monitor(source: str | None, *, as_json: bool) -> int:
    from refnet.actions.choose import sources_named
    from refnet.actions.monitor import monitor as run
    from refnet.recovery.model.monitoring import worst

    checks = run(context(), sources_named(source)[0] if source is not None else None)
    status = worst(checks)
    if as_json:
        values = [{"source": c.source, "check": c.what, "status": c.status, "says": c.says} for c in checks]
        print_json({"status": status, "checks": values})
    else:
        rows = [(c.status.upper(), c.source or "store", c.what, c.says) for c in checks]
        render.print_columns([("status", "source", "check", ""), *rows])
        print(f"in all: {status.upper()}")
    return status.exit
