"""`refnet verify`: check how far an artifact is proven."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from refnet.actions.choose import absence, select
from refnet.actions.verify import Verified
from refnet.actions.verify import verify as run
from refnet.actions.watching import open_watch, report_proof
from refnet.catalog.manifest import Level
from refnet.catalog.run import RunKind
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.completion import choice, source_or_artifact
from refnet.cli.context import context, print_json, with_progress
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst


@spread
def verify(
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="A listed name, a path, or a source; default: each source's newest.",
            **source_or_artifact(),
        ),
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            metavar="<intact|restored|proven>",
            help="Check up to this level.",
            **choice("level", [*Level][1:]),
        ),
    ] = Level.PROVEN,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Load a foreign dump even if an isolation layer is missing."),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Each source's newest artifact, as without ARTIFACT.")
    ] = False,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Check artifacts by a trial restore.

    Checks bytes, structure, a restore into a scratch server or folder, and the restored content.
    """
    if artifact and everything:
        raise RefnetError("ARTIFACT and --all exclude each other", "Omit one of them.", Exit.USAGE)
    here, results = context(place, key=True, checks=True), []
    selected = select(here, artifact)
    for one in selected.chosen:
        watched = open_watch(here).run(RunKind.VERIFY, one.source, artifact=one.name) if one.entry else None
        with with_progress(here, one.name) as shown, watched or nullcontext() as at_work:
            results.append(run(shown, one, level, trust=trust))
            if at_work:
                report_proof(at_work, one.name, results[-1].whole)
        if not as_json:
            _print(results[-1])
    if as_json:
        print_json({"results": [one.to_json() for one in results], "absent": list(selected.absent)})
    else:
        for name in selected.absent:
            print(f"{name}: could not verify: {absence(here.store, name)}")
    raise typer.Exit(worst([*(one.exit for one in results), *(Exit.UNVERIFIED for _ in selected.absent)]))


def _print(result: Verified) -> None:
    took = f" in {formatting.seconds(result.seconds)}"
    render.print_proof(f"{result.chosen.label}:", result.proof, took, result.unrecorded, indent=2)
    render.print_beside(" ", result.beside)
