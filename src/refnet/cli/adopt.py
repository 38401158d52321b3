"""`refnet adopt`: take artifacts that other programs made into the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from refnet.cli.process import clock, complain, current_settings, now, print_json
from refnet.errors import Exit, RefnetError
from refnet.settings import user_path


def adopt(
    files: Annotated[list[Path], typer.Argument(help="Artifacts without a manifest.")],
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Give artifacts that older scripts made a manifest, so that list, monitor and prune see them."""
    from refnet import wiring
    from refnet.cli import proofs
    from refnet.recovery.model.schedule import Schedule
    from refnet.recovery.verbs.adopt import adopt as run

    settings = current_settings()
    store, zone = wiring.store(settings), Schedule.of(settings).zone
    results: list[dict[str, Any]] = []
    code = Exit.DONE
    for file in files:
        try:
            done = run(
                store,
                user_path(file),
                lambda source, held: wiring.describe(settings, source, held),
                lambda source: wiring.prover(settings, source),
                now=now,
                zone=zone,
                clock=clock,
            )
        except RefnetError as error:
            complain(error)
            code = code or error.code
            continue
        code = code or (Exit.DAMAGED if done.exit is Exit.DAMAGED else Exit.DONE)
        results.append({"source": done.chosen.source, "name": done.chosen.name, **proofs.values(done.proof)})
        if not as_json:
            print(f"{done.chosen.source:9} {done.chosen.name}: {proofs.headline(done.proof)}")
            for line in proofs.details(done.proof):
                print(f"{'':9} {line}")
    if as_json:
        print_json({"results": results})
    raise typer.Exit(code)
