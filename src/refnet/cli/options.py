"""The options and arguments that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from refnet.cli.completion import artifacts, source_name, source_or_artifact
from refnet.cli.output import output
from refnet.recovery.model.source_name import SourceName


def _json(value: bool) -> bool:
    output.json = value
    return value


Json = Annotated[bool, typer.Option("--json", callback=_json, help="Print a JSON report.")]
Plan = Annotated[bool, typer.Option("--plan", "--dry-run", help="Print what would be done and stop.")]
Force = Annotated[
    bool, typer.Option("--force", "--yes", "-y", help="Do not ask before something live is replaced.")
]
Source = Annotated[
    SourceName | None, typer.Argument(metavar="SOURCE", help="This source; default: all.", **source_name())
]
Sources = Annotated[
    list[SourceName] | None,
    typer.Argument(metavar="SOURCE", help="These sources; default: all.", **source_name(clusters=True)),
]
OneSource = Annotated[
    SourceName, typer.Argument(metavar="SOURCE", help="The source; vault is obsidian.", **source_name())
]
Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="A listed name or a path; a source: its newest.",
        **source_or_artifact(),
    ),
]
ListedArtifact = Annotated[
    str,
    typer.Argument(metavar="ARTIFACT", help="A name that `refnet list` shows.", autocompletion=artifacts),
]
At = Annotated[str | None, typer.Option(metavar="TIME", help="The newest artifact at or before this time.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=64, metavar="N", help="Parallel workers; default: the setting jobs.")
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="This folder, or the database of this URL (without a password), instead of the live one.",
    ),
]
FromDatabase = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Restore the data of this database, although it is not the target's."),
]


@dataclass(frozen=True)
class Restore:
    """The arguments and options of every restore."""

    source: OneSource
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="A listed name or any path; default: the newest complete artifact.",
            autocompletion=artifacts,
        ),
    ] = None
    at: At = None
    plan: Plan = False
    force: Force = False
    damaged_anyway: Annotated[
        bool, typer.Option("--damaged-anyway", help="Restore an artifact that a check found damaged.")
    ] = False
    to: To = None
    named: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--from-database",
            metavar="NAME",
            help="Restore the data of this other source or database.",
        ),
    ] = None
    as_json: Json = False


@dataclass(frozen=True)
class Undo:
    """The arguments and options of every undo."""

    source: OneSource
    plan: Plan = False
    force: Force = False
    to: To = None
    as_json: Json = False
