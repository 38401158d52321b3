"""`refnet adopt`: take artifacts without a manifest into the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refnet.actions import adopt as action
from refnet.actions.adopt import Adopted, Adoption, ForeignAdoption
from refnet.catalog.source_name import SourceName
from refnet.cli import options, render
from refnet.cli.completion import source_name
from refnet.cli.context import context, print_json
from refnet.cli.output import complain
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.settings import user_path

Planned = Adoption | ForeignAdoption


def adopt(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Artifacts without a readable manifest.")
    ],
    *,
    source: Annotated[
        SourceName | None,
        typer.Option(
            metavar="SOURCE",
            help="Adopt dumps of other programs for this database.",
            **source_name(members=True),
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --source: its time; default: from its name."),
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Write manifests for artifacts that have none.

    Then list, monitor and prune see them. With --source: dumps of pg_dump in any format, also compressed, and of
    pg_dumpall. They are kept as SQL, gzipped.
    """
    if at and source is None:
        raise RefnetError("--at is for dumps of other programs", "Name their database: --source.", Exit.USAGE)
    here, results, codes = context(), list[Planned | Adopted](), list[Exit]()
    for file in files:
        try:
            results.append(_one(here, user_path(file), source, at, plan=plan))
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
        else:
            if not as_json:
                _print(results[-1])
    if as_json:
        print_json({"plan": plan, "results": [one.to_json() for one in results]})
    raise typer.Exit(worst([*codes, *(one.exit for one in results if isinstance(one, Adopted))]))


def _one(
    here: Context, file: Path, source: SourceName | None, at: str | None, *, plan: bool
) -> Planned | Adopted:
    if source is None:
        planned = action.plan(here, file)
        return planned if plan else action.adopt(here, planned)
    foreign = action.plan_foreign(here, file, source, at)
    return foreign if plan else action.adopt_foreign(here, foreign)


def _print(result: Planned | Adopted) -> None:
    if isinstance(result, Adopted):
        render.print_proof(f"{result.chosen.source:9} {result.chosen.name}:", result.proof)
    elif isinstance(result, ForeignAdoption):
        print(f"Adopt {result.path} as an artifact of {result.source}:")
        print(
            f"  it is a dump of another program ({result.format}), of {formatting.local(result.created)} by {result.told_by}"
        )
        print("  it is copied into the backup folder as SQL, gzipped, and checked up to intact")
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
    print(f"  a manifest is made from {planned.made_from}: of {formatting.local(planned.made.created)}")
    for fact in facts:
        print(f"    {formatting.plain(fact)}")
    print("  then it is checked up to intact")
