"""`refnet pin`, `refnet unpin`, `refnet tag`: the marks of an artifact."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions import marking
from refnet.actions.marking import Marking
from refnet.cli import options
from refnet.cli.context import context, print_json
from refnet.cli.output import say
from refnet.context import Context


def pin(
    artifact: options.ListedArtifact,
    *,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="The end of the pin; default: until unpin.")
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Keep an artifact whatever its age.

    Neither prune nor forget deletes it.
    """
    here = context()
    _run(here, marking.pin(here, artifact, until), plan=plan, as_json=as_json)


def unpin(
    artifact: options.ListedArtifact, *, plan: options.Plan = False, as_json: options.Json = False
) -> None:
    """End the pin of an artifact.

    Retention decides about it again.
    """
    here = context()
    _run(here, marking.unpin(here, artifact), plan=plan, as_json=as_json)


def tag(
    artifact: options.ListedArtifact,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The tags.")],
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the tags.")] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Tag an artifact, or remove its tags.

    `refnet list --tag NAME` finds it.
    """
    here = context()
    _run(here, marking.tag(here, artifact, names, remove=remove), plan=plan, as_json=as_json)


def _run(here: Context, planned: Marking, *, plan: bool, as_json: bool) -> None:
    notes = "; ".join(planned.marks.describe(here.clock.now())) or "neither pinned nor tagged"
    if plan:
        print_json(planned.to_json()) if as_json else print(f"would be {notes}: {planned.entry.name}")
        return
    done = marking.mark(here, planned)
    print_json(done.to_json()) if as_json else say(f"{notes}: {done.entry.name}")
