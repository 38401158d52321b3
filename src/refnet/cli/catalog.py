"""`refnet list` and `refnet show`: the artifacts of the catalog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from refnet.actions.catalog import listing
from refnet.actions.catalog import show as run
from refnet.actions.choose import sources_named
from refnet.cli import options, render
from refnet.cli.completion import artifacts
from refnet.cli.context import context, print_json
from refnet.cli.render import print_artifact
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Entry, utc
from refnet.recovery.stores.local import LocalStore


def list_artifacts(
    source: options.Source = None,
    as_json: options.Json = False,
) -> None:
    """List every artifact, oldest first: its age, its size, how far it is proven."""
    here = context()
    found, now = listing(here, sources_named(source)), here.clock.now()
    store = found.store
    if as_json:
        print_json(
            {
                "backup_dir": str(store.root),
                "artifacts": [_values(entry, store, now) for entry in found.entries],
                "unlisted": [asdict(one) for one in found.unlisted],
            }
        )
        return
    if found.entries:
        _print_table(found.entries, now)
    elif wrong := store.trouble():
        print(f"{wrong.message}\n{wrong.hint}")
    else:
        print(f"There is no artifact in {store.root}. `refnet backup` makes one.")
    for one in found.unlisted:
        what = "unreadable" if one.unreadable else "not listed"
        print(f"{what}: {store.folder(one.source) / one.name} {formatting.plain(one.why)} ({one.advice})")


def _print_table(entries: Sequence[Entry], moment: datetime) -> None:
    rows: list[tuple[str, ...]] = [("name", "source", "created", "age", "size", "state", "notes")]
    rows += [
        (
            entry.name,
            entry.source.value,
            render.local(entry.created),
            formatting.age(moment - entry.made),
            formatting.size(entry.manifest.size),
            entry.state,
            "; ".join(notes(entry)),
        )
        for entry in entries
    ]
    of = render.databases(entries)
    if of:
        column = ["database", *(of.get(entry.name, "") for entry in entries)]
        rows = [(*row[:2], database, *row[2:]) for row, database in zip(rows, column, strict=True)]
    render.print_columns(rows, right=(4, 5) if of else (3, 4))


def notes(entry: Entry) -> list[str]:
    """Return the notes of the list on `entry`, beside its state."""
    found = []
    if entry.damaged:
        found += [line.reasons[0] for line in entry.evidence[-1:] if line.reasons]
    if entry.manifest.shrunk:
        found.append(
            f"{'SHRUNK' if entry.shrunk else 'shrank, accepted'}: {'; '.join(entry.manifest.shrunk)}"
        )
    if entry.manifest.partial:
        found.append("only some tables")
    if shares := entry.manifest.details.get("shares_bytes_with"):
        found.append(f"same bytes as {shares}")
    if entry.manifest.unchecked:
        found.append(f"{len(entry.manifest.unchecked)} not protected or not checked")
    return found


def _values(entry: Entry, store: LocalStore, moment: datetime) -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "path": str(store.path(entry)),
        "database": entry.identity.database if entry.identity else None,
        "system_identifier": entry.identity.system if entry.identity else None,
        "created": utc(entry.created),
        "age_seconds": round((moment - entry.made).total_seconds()),
        "size": entry.manifest.size,
        "state": entry.state,
        "partial": entry.manifest.partial,
        "shrunk": entry.shrunk,
        "notes": notes(entry),
    }


def show(
    artifact: Annotated[
        str, typer.Argument(help="A name that `refnet list` shows, or a path.", autocompletion=artifacts())
    ],
    as_json: options.Json = False,
) -> None:
    """Show what one artifact is: how it was made, what is in it, what every check found."""
    shown = run(context(), artifact)
    entry = shown.chosen.entry
    evidence, state = (entry.evidence, entry.state) if entry else ((), "not in the catalog")
    if as_json:
        print_json(
            {
                "manifest": json.loads(shown.manifest.to_json()),
                "state": state,
                "tables": shown.tables,
                "evidence": [json.loads(line.to_json()) for line in evidence],
            }
        )
        return
    print_artifact(shown.manifest, shown.tables, evidence, state)
