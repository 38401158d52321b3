"""`refnet summarize`: a short text about each paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refnet import servers
from refnet.cli import options
from refnet.cli.context import current_settings, print_json, progress, would
from refnet.cli.output import complain, output
from refnet.core.errors import Exit
from refnet.core.formatting import plural
from refnet.network import known
from refnet.servers import ActsOn

if TYPE_CHECKING:
    from refnet.network.summarize import Summarized


def summarize(
    *,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=100_000_000, metavar="N", help="Summarize at most this many papers."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also papers that have a summary, and those that failed.")
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Summarize the papers that have no summary, the best first.

    A summary consists of sentences of the abstract, or a model of summarize.url writes it.
    """
    from refnet.network import summarize as action

    settings = current_settings()
    target = known(servers.existing_server(settings))
    acts_on = ActsOn.of(settings)
    if plan:
        count, model = action.plan(target, settings, limit, again=again)
        would(f"summarize {plural(count, 'paper')} by {model} in {acts_on.shown}", plan=True)
        return
    with progress("summarize") as shown:
        done = action.summarize(target, settings, limit, again=again, progress=shown)
    if as_json:
        print_json(acts_on.to_json() | done.to_json())
    elif not output.quiet:
        print(acts_on)
        print(*_lines(target.name, done), sep="\n")
    if done.stopped:
        complain(done.stopped)
    if done.failed or done.stopped:
        raise typer.Exit(Exit.FAILED)


def _lines(name: str, done: Summarized) -> Iterator[str]:
    yield f"{name}: {plural(done.made, 'paper')} summarized by {done.model}; {done.before:,} had a summary before"
    if done.without_abstract:
        yield f"  without an abstract: {plural(done.without_abstract, 'paper')}"
    if done.failed:
        yield f"  failed: {plural(done.failed, 'paper')}; see `refnet jobs --state failed`"
    if done.waiting:
        yield f"  waiting: {plural(done.waiting, 'paper')}; `refnet summarize` continues"
