"""`refnet adopt`: take artifacts without a manifest into the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refnet.actions import adopt as action
from refnet.actions.adopt import Adoption
from refnet.actions.context import Context
from refnet.cli import options, render
from refnet.cli.context import complain, context, print_json
from refnet.errors import Exit, RefnetError, worst
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import utc
from refnet.settings import user_path


def adopt(
    files: Annotated[list[Path], typer.Argument(help="Artifacts without a manifest that can be read.")],
    *,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Make a manifest for artifacts that have none, so that list, monitor and prune see them."""
    here, results, codes = context(), list[dict[str, Any]](), [Exit.DONE]
    for file in files:
        try:
            values, code = _one(here, user_path(file), plan=plan, quiet=as_json)
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
        else:
            results.append(values)
            codes.append(code)
    if as_json:
        print_json({"plan": plan, "results": results})
    raise typer.Exit(worst(codes))


def _one(context: Context, file: Path, *, plan: bool, quiet: bool) -> tuple[dict[str, Any], Exit]:
    """Adopt one file; return its JSON and its exit code."""
    planned = action.plan(context, file)
    if plan:
        if not quiet:
            _print_plan(planned)
        return _plan_values(planned), Exit.DONE
    done = action.adopt(context, planned)
    if not quiet:
        render.print_proof(f"{done.chosen.source:9} {done.chosen.name}:", done.proof)
    values = {"source": done.chosen.source, "name": done.chosen.name, **render.proof_values(done.proof)}
    return values, Exit.DAMAGED if done.exit is Exit.DAMAGED else Exit.DONE


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


def _plan_values(planned: Adoption) -> dict[str, Any]:
    return {
        "source": planned.source,
        "name": planned.path.name,
        "created": utc(planned.made.created),
        "told_by": planned.made_from,
        "details": planned.made.details,
        "copied_in": not planned.inside,
        "moved_aside": planned.broken or None,
    }
