"""`refnet diff`: compare two artifacts, or an artifact and what is live."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions.diff import FileDifference, diff_file
from refnet.actions.diff import diff as run
from refnet.cli import options
from refnet.cli.command import spread
from refnet.cli.completion import source_or_artifact
from refnet.cli.context import context, print_json, with_progress
from refnet.core.errors import Exit
from refnet.core.formatting import plain
from refnet.core.member_names import MAX_PATH, show
from refnet.sources import source_of
from refnet.sources.contents import LIVE, ArtifactDifference

#: How many of each kind are shown.
_SHOWN = 50


@spread
def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A listed name, a path, or a source for its newest.",
            **source_or_artifact(),
        ),
    ],
    after: Annotated[
        str,
        typer.Argument(metavar="B", help="The same; or live.", **source_or_artifact("live")),
    ] = "live",
    file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Compare the lines of this file of two artifacts."),
    ] = None,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Show the differences between an artifact and live data.

    Also between two artifacts: files, or tables; with --file the lines of one file. Ends with 4 if anything differs.
    """
    if file is not None:
        with with_progress(context(place, key=True), "diff") as here:
            lines = diff_file(here, before, after, file)
        print_json(lines.to_json()) if as_json else _print_lines(lines)
        raise typer.Exit(Exit.DONE if lines.equal else Exit.DAMAGED)
    with with_progress(context(place, key=True), "diff") as here:
        found = run(here, before, after)
    acts_on = source_of(here.settings, found.source).acts_on() if after == LIVE else None
    if as_json:
        print_json(found.to_json() | (acts_on.to_json() if acts_on else {}))
    else:
        if acts_on:
            print(acts_on)
        _print(found)
    raise typer.Exit(Exit.DONE if found.equal else Exit.DAMAGED)


def _print_lines(found: FileDifference) -> None:
    for line in found.lines:
        print("\t".join(map(plain, line.split("\t"))))
    if not found.lines:
        how = "is the same" if found.equal else "differs, and one is not text"
        print(f"{show(found.path, MAX_PATH)} {how} in {found.before} and {found.after}")


def _print(found: ArtifactDifference) -> None:
    lines = [
        *(f"+ {show(name, MAX_PATH)}" for name in found.added),
        *(f"~ {show(one.name, MAX_PATH)}  ({show(one.why)})" for one in found.changed),
        *(f"- {show(name, MAX_PATH)}" for name in found.removed),
    ]
    for line in lines[:_SHOWN]:
        print(line)
    if len(lines) > _SHOWN:
        print(f"… and {len(lines) - _SHOWN:,} more: --json shows all")
    for note in found.notes:
        print(f"note: {show(note, 500)}")
    if found.equal:
        print(f"{found.before} and {found.after} are equal")
    else:
        counts = f"{len(found.added):,} added, {len(found.changed):,} changed, {len(found.removed):,} removed"
        print(f"from {found.before} to {found.after}: {counts}")
