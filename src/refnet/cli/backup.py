"""`refnet backup`: make an artifact of each source, and prove it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import clock, complain, current_settings, note, now, print_json, progress
from refnet.errors import Exit, RefnetError
from refnet.settings import user_path

if TYPE_CHECKING:
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.shrinking import Shrinking
    from refnet.recovery.model.source import Source
    from refnet.recovery.stores.local import LocalStore
    from refnet.recovery.verbs.backup import Backup
    from refnet.settings import Settings
    from refnet.telemetry.watch import Watch


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
    from refnet import wiring
    from refnet.cli import sources
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.stores.local import LocalStore

    settings = current_settings()
    names = sources.named(source or (SourceName.DATABASE if table else None))
    if table and names != (SourceName.DATABASE,):
        raise RefnetError("--table is for the database alone", "Leave one of the two out.", Exit.USAGE)
    store = LocalStore(user_path(to).absolute(), flat=True) if to else wiring.store(settings)
    configured = wiring.sources(settings, jobs=jobs, tables=tuple(table or ()), into=store)
    if source is not None and names[0] not in configured:
        raise sources.not_configured(names[0])
    elsewhere = to is not None or bool(table)  # then nothing is protected by it, and nobody expects it
    watch = None if elsewhere else wiring.watch(settings, now=now, clock=clock, note=note)
    results, code = [], Exit.DONE
    one = partial(_one, store=store, watch=watch, shrinking=wiring.shrinking(settings), settings=settings)
    for name in names:
        result, ended = one(name, configured.get(name), prove=not no_prove, quiet=as_json)
        results.append(result)
        code = code or ended
    if as_json:
        print_json({"results": results})
    else:
        _print_at_the_end(results)
    raise typer.Exit(code)


def _one(
    name: SourceName,
    source: Source | None,
    store: LocalStore,
    watch: Watch | None,
    shrinking: Shrinking,
    *,
    settings: Settings,
    prove: bool,
    quiet: bool,
) -> tuple[dict[str, Any], Exit]:
    """Back up one source; what --json says of it, and the code to end with. A failure is told, never raised."""
    from refnet import wiring
    from refnet.cli import acting, sources
    from refnet.recovery.model.artifact import SourceName
    from refnet.recovery.model.run import Kind
    from refnet.recovery.verbs.backup import backup as run

    if source is None:
        if not quiet:
            print(f"{name:9} not configured: {sources.not_configured(name).hint}")
        return {"source": name, "outcome": "not configured"}, Exit.DONE
    try:
        with watch.run(Kind.BACKUP, name) if watch else nullcontext() as at_work:
            with progress(name) as shown:
                made = run(
                    source,
                    store,
                    now=now,
                    zone=None,
                    prove=prove,
                    clock=clock,
                    shrinking=shrinking,
                    progress=shown,
                )
            if at_work:
                wiring.tell_proof(at_work, made.manifest.name, made.proof)
    except RefnetError as failure:
        error = acting.explained(failure, settings)
        complain(error)
        return {"source": name, "outcome": "failed", "error": error.message, "hint": error.hint}, error.code
    path = store.folder(made.manifest.source) / made.manifest.name
    told = acting.values(settings) if name is SourceName.DATABASE else {}
    if not quiet:
        _print(made, path, acting.line(settings) if told else "")
    return _values(made, path) | told, made.exit


def _print(made: Backup, path: Path, acts_on: str) -> None:
    from refnet.cli import formatting, render_proof

    manifest = made.manifest
    took = formatting.seconds(made.seconds["dump"] + made.seconds["publish"])
    print(f"{manifest.source:9} {path}  {formatting.size(manifest.size)} in {took}")
    if shares := manifest.details.get("shares_bytes_with"):
        print(f"{'':9} nothing changed: shares its bytes with {shares}")
    for sentence in (*made.warnings, *manifest.unchecked):
        print(f"{'':9} {sentence}")
    if made.proof:
        print(f"{'':9} {render_proof.headline(made.proof)} in {formatting.seconds(made.seconds['prove'])}")
        for line in render_proof.details(made.proof):
            print(f"{'':9} {line}")
    if made.unrecorded:
        print(f"{'':9} the evidence could not be kept: {made.unrecorded}")
    if acts_on:
        print(f"{'':9} {acts_on}")


def _print_at_the_end(results: list[dict[str, Any]]) -> None:
    """Say at the end which artifacts shrank, and which are not proven although that was asked for, and why."""
    from refnet.cli import formatting
    from refnet.recovery.model.artifact import Outcome

    unverified = Outcome.UNVERIFIED.value
    for one in results:
        if (manifest := one.get("manifest", {})).get("shrunk"):
            print(
                f"{one['source']:9} {formatting.shrunk(manifest)}: `refnet accept {manifest['name']}` if that is meant"
            )
        proof = one.get("proof")
        if proof and proof["outcome"] == unverified:
            why = "; ".join(f["reason"] for f in proof["findings"] if f["outcome"] == unverified)
            name = one["manifest"]["name"]
            print(f"{one['source']:9} {name}: {proof['level']}, NOT proven: {formatting.plain(why)}")


def _values(made: Backup, path: Path) -> dict[str, Any]:
    import json

    from refnet.cli import render_proof

    return {
        "source": made.manifest.source,
        "outcome": "damaged" if made.exit is Exit.DAMAGED else "done",
        "path": str(path),
        "manifest": json.loads(made.manifest.to_json()),
        "proof": render_proof.values(made.proof) if made.proof else None,
        "seconds": {phase: round(taken, 3) for phase, taken in made.seconds.items()},
        "warnings": list(made.warnings),
        "unrecorded": made.unrecorded or None,
    }
