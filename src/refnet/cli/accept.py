"""`refnet accept`: accept a source that shrank."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from refnet.actions import accept as action
from refnet.cli import options
from refnet.cli.completion import artifacts
from refnet.cli.context import context, ends_at_plan, print_json
from refnet.recovery.model.artifact import Entry


def accept(
    artifact: Annotated[
        str, typer.Argument(help="A name that `refnet list` shows.", autocompletion=artifacts())
    ],
    *,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Accept an artifact that shrank: later ones are compared with it, and the one before it is kept no longer."""
    here = context()
    entry = action.plan(here, artifact)
    if ends_at_plan(entry, _values, _print, plan=plan, as_json=as_json):
        return
    action.accept(here, entry)
    if as_json:
        print_json({**_values(entry), "accepted": True})
    else:
        print(f"accepted: {entry.name}")


def _print(entry: Entry) -> None:
    shrank = "; ".join(entry.manifest.shrunk)
    print(f"Accept {entry.name}: {shrank}, against {entry.manifest.shrunk_from}:")
    print(f"  1. later artifacts are compared with {entry.name}")
    print("  2. `refnet prune` no longer keeps the last proven one before it for its sake")


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "shrunk": list(entry.manifest.shrunk),
        "shrunk_from": entry.manifest.shrunk_from,
        "accepted": False,
    }
