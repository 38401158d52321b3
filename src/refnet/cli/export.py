"""`refnet export`: the papers and citations of the network for other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refnet import servers
from refnet.actions.acting import ActsOn
from refnet.cli import options
from refnet.cli.context import current_settings, would
from refnet.cli.output import output
from refnet.errors import Exit, RefnetError
from refnet.files import explained


class Format(StrEnum):
    """The formats of an export."""

    GRAPHML = "graphml"
    CSV = "csv"
    BIBTEX = "bibtex"
    JSON = "json"


def export(
    format: Annotated[  # noqa: A002  # its name in errors
        Format, typer.Argument(parser=Format, metavar="FORMAT", help="graphml, csv, bibtex or json.")
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="This file, replaced if it exists; csv: a folder for two files."),
    ] = None,
    plan: options.Plan = False,
) -> None:
    """Export papers and citations for other programs.

    Without --to the export is printed; csv needs --to.
    """
    from refnet.network import export as network

    settings = current_settings()
    if format is Format.CSV and to is None:
        raise RefnetError("csv makes two files", "Name a folder for them with --to.", Exit.USAGE)
    if would(f"export {ActsOn.of(settings).shown} as {format} to {to or 'stdout'}", plan=plan):
        return

    def write(name: str, texts: Iterator[str]) -> None:
        if to is None:
            for text in texts:
                sys.stdout.write(text)
            return
        path = to
        if format is Format.CSV:
            with explained(to):
                to.mkdir(parents=True, exist_ok=True)
            path = to / name
        network.write_file(path, texts)
        if not output.quiet:
            print(path)

    network.export(servers.existing_server(settings), format.value, write)
