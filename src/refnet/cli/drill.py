"""`refnet drill`: prove the newest artifact of each source with a clock, and write a report."""

from __future__ import annotations

import platform
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from refnet.cli.context import clock, current_settings, note, now, print_json, progress

if TYPE_CHECKING:
    from refnet.recovery.verbs.drill import Drill


def drill(
    source: Annotated[
        str | None, typer.Argument(help="A source, a listed name or a path; none: every source's newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Restore the newest artifacts into scratch places, compare, measure, and write a report."""
    from importlib.metadata import version

    from refnet import servers, wiring
    from refnet.cli import sources
    from refnet.recovery.verbs import drill as verb

    settings = current_settings()
    target = partial(servers.identity, settings)
    chosen, absent = sources.artifacts(wiring.store(settings), source, wiring.sources(settings), target)
    with progress("drill") as shown:
        found = verb.drill(
            chosen,
            absent,
            lambda name: wiring.prover(settings, name),
            now=now,
            clock=clock,
            progress=shown,
            around=wiring.watched_drill(wiring.watch(settings, now=now, clock=clock, note=note)),
        )
    values = verb.report(found, {"host": platform.node(), "made_by": f"refnet {version('refnet')}"})
    written = verb.write_report(values, settings.home / "reports", now().astimezone(), None)
    if as_json:
        print_json(values | {"report": str(written[1])})
    else:
        _print(found)
        print(f"report: {written[1]}")
    raise typer.Exit(found.exit)


def _print(found: Drill) -> None:
    from refnet.cli import formatting, render_proof

    for result in found.results:
        recovery = formatting.seconds(sum(result.proof.seconds.values()))
        print(f"{result.chosen.source:9} {result.chosen.name}: {render_proof.headline(result.proof)}")
        for line in render_proof.details(result.proof):
            print(f"{'':9} {line}")
        if result.chosen.entry:
            old = formatting.age(found.started - result.chosen.entry.created)
            print(f"{'':9} measured recovery {recovery}, age of the data {old}")
    for name in found.absent:
        print(f"{name:9} could not verify: there is no whole artifact of this source")
