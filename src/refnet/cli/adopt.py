"""`refnet adopt`: take artifacts without a manifest into the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refnet.actions import adopt as action
from refnet.actions.adopt import Adopted, Adoption
from refnet.cli import options, render
from refnet.cli.context import complain, context, print_json
from refnet.errors import Exit, RefnetError, worst
from refnet.recovery.model import formatting
from refnet.settings import user_path


def adopt(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Artifacts without a manifest that can be read.")
    ],
    *,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Write manifests for artifacts that have none.

    Then list, monitor and prune see them.
    """
    here, results, codes = context(), list[Adoption | Adopted](), list[Exit]()
    for file in files:
        try:
            planned = action.plan(here, user_path(file))
            results.append(planned if plan else action.adopt(here, planned))
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
        else:
            if not as_json:
                _print(results[-1])
    if as_json:
        print_json({"plan": plan, "results": [one.to_json() for one in results]})
    raise typer.Exit(worst([*codes, *(one.exit for one in results if isinstance(one, Adopted))]))


def _print(result: Adoption | Adopted) -> None:
    if isinstance(result, Adopted):
        render.print_proof(f"{result.chosen.source:9} {result.chosen.name}:", result.proof)
    else:
        _print_plan(result)


def _print_plan(planned: Adoption) -> None:
    facts = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in planned.made.details.items()
        if isinstance(value, (str, int))
    ]
    print(f"Adopt {planned.path} as an artifact of {planned.source}:")
    if planned.broken:
        print(
            f"  its manifest is moved aside ({planned.path.name}.json.damaged): {formatting.plain(planned.broken)}"
        )
    if not planned.inside:
        print("  it is copied into the backup folder")
    print(f"  a manifest is made from {planned.made_from}: of {render.local(planned.made.created)}")
    for fact in facts:
        print(f"    {formatting.plain(fact)}")
    print("  then it is checked up to intact")
