"""`refnet export`: the papers and citations of the network for other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.context import current_settings, would
from refnet.cli.output import output
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.network import export as network
from refnet.network import known
from refnet.servers import ActsOn

_CSV = "csv"
_FORMATS = ("graphml", _CSV, "bibtex", "json")


def _format(text: str) -> str:
    if text not in _FORMATS:
        raise ValueError(f"'{text}' is not one of {', '.join(_FORMATS)}")
    return text


def export(
    format: Annotated[  # noqa: A002  # its name in errors
        str,
        typer.Argument(
            parser=_format,
            metavar="FORMAT",
            help="graphml, csv, bibtex or json.",
            autocompletion=lambda: [*_FORMATS],
        ),
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
    settings = current_settings()
    if format == _CSV and to is None:
        raise RefnetError("csv makes two files", "Name a folder for them with --to.", Exit.USAGE)
    if would(f"export {ActsOn.of(settings).shown} as {format} to {to or 'stdout'}", plan=plan):
        return

    def write(name: str, texts: Iterator[str]) -> None:
        if to is None:
            for text in texts:
                sys.stdout.write(text)
            return
        path = to
        if format == _CSV:
            with explained(to):
                to.mkdir(parents=True, exist_ok=True)
            path = to / name
        network.write_file(path, texts)
        if not output.quiet:
            print(path)

    network.export(known(servers.existing_server(settings)), format, write)
