"""`refnet backup`: make an artifact of each source, and prove it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from refnet.actions.backup import Backup, Options
from refnet.actions.backup import backup as run
from refnet.actions.choose import sources_named
from refnet.actions.context import Context
from refnet.cli import acting, options, render
from refnet.cli.context import complain, context, print_json, with_progress
from refnet.errors import Exit, RefnetError, worst
from refnet.recovery.model import formatting
from refnet.recovery.model.artifact import Outcome, SourceName
from refnet.settings import user_path
from refnet.wiring import configured, not_configured


def backup(
    source: options.Source = None,
    *,
    jobs: options.Jobs = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table of the database; repeatable.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="Write there, outside the catalog.")] = None,
    no_prove: Annotated[bool, typer.Option("--no-prove", help="Leave the proof to later.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make an artifact of each source, restore it into a scratch place and compare."""
    here, names = context(), sources_named(source or (SourceName.DATABASE if table else None))
    if table and names != (SourceName.DATABASE,):
        raise RefnetError("--table is for the database alone", "Leave one of the two out.", Exit.USAGE)
    folder = user_path(to).absolute() if to else None
    how = Options(not no_prove, jobs, tuple(table or ()), folder)
    if source is not None and names[0] not in configured(here.settings):
        raise not_configured(names[0])
    raise typer.Exit(back_up(here, names, how, as_json=as_json))


def back_up(
    here: Context,
    names: Iterable[SourceName] = SourceName,
    how: Options | None = None,
    *,
    as_json: bool = False,
) -> Exit:
    """Back up the sources `names`, print the results and return the exit code."""
    ended = [_one(here, name, how or Options(), quiet=as_json) for name in names]
    results = [values for values, _ in ended]
    if as_json:
        print_json({"results": results})
    else:
        _print_at_the_end(results)
    return worst(code for _, code in ended)


def _one(context: Context, name: SourceName, how: Options, *, quiet: bool) -> tuple[dict[str, Any], Exit]:
    """Back up one source; return its JSON and its exit code. An error is printed, never raised."""
    try:
        with with_progress(context, name) as shown:
            made = run(shown, name, how)
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
        took = f" in {formatting.seconds(made.seconds['prove'])}"
        render.print_proof(" " * 9, made.proof, took, made.unrecorded)
    elif made.unrecorded:
        print(f"{'':9} the evidence could not be recorded: {made.unrecorded}")
    if acts_on:
        print(f"{'':9} {acts_on}")


def _print_at_the_end(results: list[dict[str, Any]]) -> None:
    """Print at the end which artifacts shrank, and which could not be proven and why."""
    unverified = Outcome.UNVERIFIED.value
    for one in results:
        if (manifest := one.get("manifest", {})).get("shrunk"):
            print(
                f"{one['source']:9} {render.shrunk(manifest)}: `refnet accept {manifest['name']}` if that is intended"
            )
        proof = one.get("proof")
        if proof and proof["outcome"] == unverified:
            why = "; ".join(f["reason"] for f in proof["findings"] if f["outcome"] == unverified)
            name = one["manifest"]["name"]
            print(f"{one['source']:9} {name}: {proof['level']}, NOT proven: {formatting.plain(why)}")


def _values(made: Backup) -> dict[str, Any]:
    return {
        "source": made.manifest.source,
        "outcome": "damaged" if made.exit is Exit.DAMAGED else "done",
        "path": str(made.path),
        "manifest": json.loads(made.manifest.to_json()),
        "proof": render.proof_values(made.proof) if made.proof else None,
        "seconds": render.rounded(made.seconds),
        "warnings": list(made.warnings),
        "unrecorded": made.unrecorded or None,
    }
