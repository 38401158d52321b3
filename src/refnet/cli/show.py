"""`refnet show`: one artifact, its files or its tables."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from refnet.actions import look
from refnet.actions.catalog import show as run
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.context import context, note, print_json, print_json_list, with_progress
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, size
from refnet.core.member_names import MAX_PATH
from refnet.core.member_names import show as shown
from refnet.sources.folder.listing import FileKind, Listed


@spread
def show(
    artifact: options.Artifact,
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="Only these, after --files or --tables: '*.md', 'papers/**'."),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="List the files that GLOB matches, or all.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="List the tables that GLOB matches, or all.")
    ] = False,
    at: options.At = None,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Show one artifact: its origin, content and evidence."""
    if (files and tables) or (pattern and not (files or tables)):
        raise RefnetError(
            "--files and --tables exclude each other" if files else "a GLOB needs --files or --tables",
            "Give one of them, such as: refnet show obsidian --files '*.md'.",
            Exit.USAGE,
        )
    if not (files or tables):
        found = run(context(place), artifact, at)
        print_json(found.to_json()) if as_json else render.print_artifact(found)
        return
    with with_progress(context(place, key=True), "show") as here:
        contents = (look.files if files else look.tables)(here, artifact, pattern, at)
    if as_json:
        print_json_list(contents.head(), "files" if files else "tables", map(json.dumps, contents.entries()))
        return
    if contents.unlisted:
        note(f"{contents.artifact.name} has no list of files: its archive was read")
    for listed in contents.files:
        print(_line(listed))
    if contents.tables:
        rows = [(plain(one.qualified), f"{one.rows:,}", size(one.raw)) for one in contents.tables]
        render.print_columns([("table", "rows", "as text"), *rows], right=(1, 2), shorten=0)


def _line(one: Listed) -> str:
    end = {FileKind.FOLDER: "/", FileKind.LINK: f" -> {shown(one.target, MAX_PATH)}"}.get(one.kind, "")
    bytes_ = size(one.size) if one.kind is FileKind.FILE else ""
    return f"{one.mode:04o}  {bytes_:>9}  {render.local_ns(one.mtime_ns)}  {shown(one.path, MAX_PATH)}{end}"
