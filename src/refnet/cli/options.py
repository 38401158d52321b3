"""The options and arguments that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from refnet.catalog.source_name import LOCAL, SourceName
from refnet.cli.completion import artifacts, source_name, source_or_artifact, stores
from refnet.cli.output import output
from refnet.core.errors import Exit, RefnetError


def _json(value: bool) -> bool:
    output.json = value
    return value


Json = Annotated[bool, typer.Option("--json", callback=_json, help="Print a JSON report.")]
Plan = Annotated[bool, typer.Option("--plan", "--dry-run", help="Print what would be done and stop.")]
Force = Annotated[
    bool, typer.Option("--force", "--yes", "-y", help="Do not ask before live data is replaced.")
]
RunRestored = Annotated[
    bool,
    typer.Option("--yes-run-restored-commands", help="Do not ask before commands from the backup run."),
]
Source = Annotated[
    SourceName | None, typer.Argument(metavar="SOURCE", help="This source; default: all.", **source_name())
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(metavar="SOURCE", help="These sources; default: all.", **source_name(clusters=True)),
]
OneSource = Annotated[
    SourceName,
    typer.Argument(metavar="SOURCE", help="The source; vault is obsidian.", **source_name(members=True)),
]
Artifact = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="A listed name, a path, or a source for its newest.",
        **source_or_artifact(),
    ),
]
ListedArtifact = Annotated[
    str,
    typer.Argument(metavar="ARTIFACT", help="A name that `refnet list` shows.", autocompletion=artifacts),
]
At = Annotated[str | None, typer.Option(metavar="TIME", help="The newest artifact at or before this time.")]


Timeline = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=(1 << 32) - 1,
        metavar="N",
        help="Recover on this timeline; default: the one that the server was on.",
    ),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=64, metavar="N", help="Parallel workers; default: the setting jobs.")
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Restore to this folder or database URL (without a password) instead of the live one.",
    ),
]
Permit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="POWER",
        help="Give roles the powers of this list on the recovery page (SHA256:…), or this one ('ROLE: POWER'; repeatable).",
    ),
]
FromDatabase = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Restore the data of this database, which is not the target."),
]


def _signer(text: str) -> str:
    from refnet.store.encryption import fingerprint

    try:
        return fingerprint(text)
    except ValueError as error:
        hint = "The recovery page shows it: SHA256:…, or ssh-ed25519 AAAA…"
        raise RefnetError(f"--signer: {error}", hint, Exit.USAGE) from None


IdentityFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The file with the recovery key; default: ask at the terminal."),
]


@dataclass(frozen=True)
class StoreOptions:
    """The options of every command that reads the backup folder or a remote store."""

    store: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Read this remote store, a name or a URL, instead of the backup folder.",
            autocompletion=stores,
        ),
    ] = None
    identity_file: IdentityFile = None
    signer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Also trust this signer: SHA256:… or a public key (repeatable).",
            parser=_signer,
        ),
    ] = None
    any_signer: Annotated[
        bool, typer.Option("--any-signer", help="Trust any signer; do not compare keys.")
    ] = False
    deleted: Annotated[
        bool,
        typer.Option(
            "--deleted", help="Also read deleted and replaced copies, if the bucket keeps versions."
        ),
    ] = False

    @property
    def is_remote(self) -> bool:
        """Whether it is a remote store, not the backup folder."""
        return self.store not in {None, LOCAL}

    def check(self) -> None:
        """Raise RefnetError (USAGE) for options of a remote store without a store."""
        if self.store is None and (self.identity_file or self.signer or self.any_signer or self.deleted):
            raise RefnetError(
                "--identity-file, --signer, --any-signer and --deleted are for remote stores",
                "Name one with --store, or omit them.",
                Exit.USAGE,
            )


@dataclass(frozen=True)
class RestoreOptions:
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
            "--source",
            "--from",
            "--from-database",
            metavar="NAME",
            help="Restore from this other source or database.",
        ),
    ] = None
    as_json: Json = False


@dataclass(frozen=True)
class UndoOptions:
    """The arguments and options of every undo."""

    source: OneSource
    plan: Plan = False
    force: Force = False
    to: To = None
    as_json: Json = False
