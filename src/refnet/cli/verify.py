"""`refnet verify`: how far does an artifact hold?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.cli.context import clock, current_settings, now, print_json, progress
from refnet.errors import Exit, RefnetError

if TYPE_CHECKING:
    from refnet.recovery.model.artifact import Level
    from refnet.recovery.verbs.verify import Verified


def verify(
    artifact: Annotated[
        str | None, typer.Argument(help="A listed name or a path; a source; none: each source's newest.")
    ] = None,
    level: Annotated[str, typer.Option(help="intact, restored or proven.")] = "proven",
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Load a dump that RefNet did not make where a wall around it is missing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check an artifact: its bytes, its structure, a restore into a scratch place, its content."""
    from refnet import servers, wiring
    from refnet.cli import sources
    from refnet.recovery.verbs.verify import verify as run

    settings = current_settings()
    wanted = _level(level)
    results = []
    target = partial(servers.identity, settings)
    chosen, absent = sources.artifacts(wiring.store(settings), artifact, wiring.sources(settings), target)
    for one in chosen:
        with progress(one.name) as shown:
            prover = wiring.prover(settings, one.source, trust=trust)
            results.append(run(one, prover, wanted, now=now, clock=clock, progress=shown))
        if not as_json:
            _print(results[-1])
    for name in () if as_json else absent:
        print(f"{name}: could not verify: there is no complete artifact")
    if as_json:
        print_json({"results": [_values(result) for result in results], "absent": list(absent)})
    codes = [result.exit for result in results]
    raise typer.Exit(worst([*codes, *(Exit.UNVERIFIED for _ in absent)]))


def worst(codes: list[Exit]) -> Exit:
    """Damage before what could not be verified before all well."""
    order = [Exit.DAMAGED, Exit.UNVERIFIED]
    return next((code for code in order if code in codes), Exit.DONE)


def _level(text: str) -> Level:
    from refnet.recovery.model.artifact import Level

    if text not in ("intact", "restored", "proven"):
        raise RefnetError(
            f"'{text}' is not a level to verify", "The levels are: intact, restored, proven.", Exit.USAGE
        )
    return Level(text)


def _print(result: Verified) -> None:
    from refnet.cli import formatting, render_proof

    print(
        f"{result.chosen.name}: {render_proof.headline(result.proof)} in {formatting.seconds(result.seconds)}"
    )
    for line in render_proof.details(result.proof):
        print(f"  {line}")
    if result.unrecorded:
        print(f"  the evidence could not be kept: {result.unrecorded}")


def _values(result: Verified) -> dict[str, Any]:
    from refnet.cli import render_proof

    return {
        "source": result.chosen.source,
        "name": result.chosen.name,
        "seconds_in_all": round(result.seconds, 3),
        "unrecorded": result.unrecorded or None,
        **render_proof.values(result.proof),
    }
