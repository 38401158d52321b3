"""`refnet backup`: make an artifact of each source, and prove it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli import render
from refnet.cli.context import complain, context, print_json, with_progress
from refnet.errors import Exit, RefnetError, worst
from refnet.recovery.model import formatting
from refnet.settings import user_path

if TYPE_CHECKING:
    from refnet.actions.backup import Backup, Options
    from refnet.actions.context import Context
    from refnet.recovery.model.artifact import SourceName


def backup(
    source: Annotated[str | None, typer.Argument(help="database, config or obsidian; none: all.")] = None,
    *,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Parallel workers.")] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table of the database; repeatable.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="Write there, outside the catalog.")] = None,
    no_prove: Annotated[bool, typer.Option("--no-prove", help="Leave the proof to later.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Make an artifact of each source, restore it into a scratch place and compare."""
    from refnet.actions.backup import Options
    from refnet.actions.choose import check_configured, sources_named
    from refnet.recovery.model.artifact import SourceName

    here, names = context(), sources_named(source or (SourceName.DATABASE if table else None))
    if table and names != (SourceName.DATABASE,):
        raise RefnetError("--table is for the database alone", "Leave one of the two out.", Exit.USAGE)
    folder = user_path(to).absolute() if to else None
    options = Options(not no_prove, jobs, tuple(table or ()), folder)
    if source is not None:
        check_configured(here, names[0])
    ended = [_one(here, name, options, quiet=as_json) for name in names]
    results = [values for values, _ in ended]
    if as_json:
        print_json({"results": results})
    else:
        _print_at_the_end(results)
    raise typer.Exit(worst(code for _, code in ended))


def _one(context: Context, name: SourceName, options: Options, *, quiet: bool) -> tuple[dict[str, Any], Exit]:
    """Back up one source; return its JSON and its exit code. An error is printed, never raised."""
    from refnet.actions.backup import backup as run
    from refnet.actions.choose import not_configured
    from refnet.cli import acting
    from refnet.recovery.model.artifact import SourceName

    try:
        with with_progress(context, name) as shown:
            made = run(shown, name, options)
    except RefnetError as error:
        complain(error)
        return {"source": name, "outcome": "failed", "error": error.message, "hint": error.hint}, error.code
    if made is None:
        if not quiet:
            print(f"{name:9} not configured: {not_configured(name).hint}")
        return {"source": name, "outcome": "not configured"}, Exit.DONE
    of_database = name is SourceName.DATABASE
    if not quiet:
        _print(made, acting.line(context.settings) if of_database else "")
    return _values(made) | (acting.values(context.settings) if of_database else {}), made.exit


def _print(made: Backup, acts_on: str) -> None:

    manifest = made.manifest
    took = formatting.seconds(made.seconds["dump"] + made.seconds["publish"])
    print(f"{manifest.source:9} {made.path}  {formatting.size(manifest.size)} in {took}")
    if shares := manifest.details.get("shares_bytes_with"):
        print(f"{'':9} nothing changed: shares its bytes with {shares}")
    for sentence in (*made.warnings, *manifest.unchecked):
        print(f"{'':9} {sentence}")
    if made.proof:
        print(f"{'':9} {render.headline(made.proof)} in {formatting.seconds(made.seconds['prove'])}")
        for line in render.details(made.proof):
            print(f"{'':9} {line}")
    if made.unrecorded:
        print(f"{'':9} the evidence could not be recorded: {made.unrecorded}")
    if acts_on:
        print(f"{'':9} {acts_on}")


def _print_at_the_end(results: list[dict[str, Any]]) -> None:
    """Print at the end which artifacts shrank, and which could not be proven and why."""
    from refnet.recovery.model.artifact import Outcome

    unverified = Outcome.UNVERIFIED.value
    for one in results:
        if (manifest := one.get("manifest", {})).get("shrunk"):
            print(
                f"{one['source']:9} {render.shrunk(manifest)}: `refnet accept {manifest['name']}` if that is meant"
            )
        proof = one.get("proof")
        if proof and proof["outcome"] == unverified:
            why = "; ".join(f["reason"] for f in proof["findings"] if f["outcome"] == unverified)
            name = one["manifest"]["name"]
            print(f"{one['source']:9} {name}: {proof['level']}, NOT proven: {formatting.plain(why)}")


def _values(made: Backup) -> dict[str, Any]:
    import json

    return {
        "source": made.manifest.source,
        "outcome": "damaged" if made.exit is Exit.DAMAGED else "done",
        "path": str(made.path),
        "manifest": json.loads(made.manifest.to_json()),
        "proof": render.proof_values(made.proof) if made.proof else None,
        "seconds": {phase: round(taken, 3) for phase, taken in made.seconds.items()},
        "warnings": list(made.warnings),
        "unrecorded": made.unrecorded or None,
    }
