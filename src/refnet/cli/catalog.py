"""`refnet list`: the artifacts of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from refnet.actions.catalog import listing, notes
from refnet.cli import options, render
from refnet.cli.context import context, print_json
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Entry, SourceName

#: A terminal with space for both the source and the database.
_WIDE = 130


def list_artifacts(
    source: options.Source = None,
    *,
    tag: Annotated[str | None, typer.Option(metavar="NAME", help="Only artifacts with this tag.")] = None,
    as_json: options.Json = False,
) -> None:
    """List every artifact, oldest first: its age, its size, how far it is proven."""
    found = listing(context(), (source,) if source else tuple(SourceName), tag)
    store = found.store
    if as_json:
        print_json(found.to_json())
        return
    if found.entries:
        _print_table(found.entries, found.now)
    elif tag is not None:
        print(f"No artifact in {store.root} has the tag {tag}.")
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
            "; ".join(notes(entry, moment)),
        )
        for entry in entries
    ]
    of = render.databases(entries)
    narrow = render.width() < _WIDE
    if of and narrow:
        column = ["source or database", *(of.get(entry.name, entry.source.value) for entry in entries)]
        rows = [(row[0], one, *row[2:]) for row, one in zip(rows, column, strict=True)]
    elif of:
        column = ["database", *(of.get(entry.name, "") for entry in entries)]
        rows = [(*row[:2], one, *row[2:]) for row, one in zip(rows, column, strict=True)]
    if narrow and not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    right = tuple(rows[0].index(name) for name in ("age", "size"))
    render.print_columns(rows, right, shorten=right[0] - 2 if of else None)
