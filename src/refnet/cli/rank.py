"""`refnet rank`, `refnet summarize`: the most important, closest and missing papers, and a short text about each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refnet import servers
from refnet.cli import options, render
from refnet.cli.context import current_settings, print_json, progress, would
from refnet.cli.output import complain, output
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.network import known
from refnet.network.rank_table import RankTable, table
from refnet.servers import ActsOn

if TYPE_CHECKING:
    from refnet.network.rank import Ranked

if TYPE_CHECKING:
    from refnet.network.summarize import Summarized


_PAIRS = {"co_citation": "most often cited together", "coupling": "most references in common"}


def rank(
    *,
    top: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="The number of papers to show.")
    ] = 20,
    missing: Annotated[
        bool, typer.Option("--missing", help="Show the papers that yours cite most and that are missing.")
    ] = False,
    read_first: Annotated[
        bool,
        typer.Option(
            "--read-first", help="Show what to read first, and why, by your seeds and the papers' age."
        ),
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Rank all papers, and find the closest papers of each.

    The rank is the PageRank in the graph of citations.
    Two papers are close if many papers cite both (co-citation), or if both cite the same ones (coupling).
    """
    from refnet.network import rank as ranking

    if missing and read_first:
        raise RefnetError("--missing and --read-first are two lists", "Choose one of them.", Exit.USAGE)
    settings = current_settings()
    target = known(servers.existing_server(settings))
    acts_on = ActsOn.of(settings)
    there = ranking.plan(target)
    if would(
        f"rank {plural(there.papers, 'paper')} by {plural(there.citations, 'citation')} in {acts_on.shown}",
        plan=plan,
    ):
        return
    with progress("rank") as shown:
        ranked = ranking.compute(target, shown)
    found = table(target, top, missing=missing, first=read_first)
    if as_json:
        print_json(acts_on.to_json() | {"ranked": ranked.to_json()} | found.to_json())
        return
    if not output.quiet:
        print(acts_on)
        print(*_head(target.name, ranked), sep="\n")
    show = _print_first if read_first else _print_missing if missing else _print_ranks
    show(found)


def _head(name: str, ranked: Ranked) -> Iterator[str]:
    """Yield what was ranked and skipped, and what a meaningful ranking needs."""
    from refnet.network.rank import MOST

    if not ranked.papers:
        yield f"{name}: no papers to rank. Collect some: `refnet crawl ID`."
        return
    stubs = ranked.papers - ranked.with_details
    yield (
        f"{name}: {plural(ranked.papers, 'paper')} ({plural(stubs, 'stub')}) ranked by"
        f" {plural(ranked.citations, 'citation')}"
    )
    if not ranked.citations:
        yield "  no citations, so every paper ranks the same. Collect some: `refnet crawl ID`."
    elif not ranked.with_details:
        yield "  every paper is a stub: `refnet crawl ID` collects the details of the papers that you name."
    if ranked.too_many_references:
        papers = plural(ranked.too_many_references, "paper")
        yield f"  left out of co-citation: {papers} with more than {MOST} references"
    if ranked.too_many_citations:
        papers = plural(ranked.too_many_citations, "paper")
        yield f"  left out of coupling: {papers} with more than {MOST} citations"


def _print_ranks(found: RankTable) -> None:
    rows = [
        (str(one.position), f"{one.pagerank:.3g}", f"{one.cited_by:,}", f"{one.cites:,}", _year(one.year), one.title)
        for one in found.papers
    ]  # fmt: skip
    if rows:
        print()
        render.print_columns(
            [("", "PageRank", "cited by", "cites", "year", "paper"), *rows], right=(0, 1, 2, 3)
        )
    for kind, title in _PAIRS.items():
        if pairs := [
            (f"{one.strength:,}", f"{one.one} · {one.other}") for one in found.pairs if one.kind == kind
        ]:
            print()
            render.print_columns([("times", title), *pairs], right=(0,))


def _print_first(found: RankTable) -> None:
    if not found.first:
        print("nothing to read: every paper is a seed. Collect more: `refnet crawl ID`")
        return
    rows = [(str(n), _year(one["year"]), one["title"], one["why"]) for n, one in enumerate(found.first, 1)]
    print()
    render.print_columns([("", "year", "read first", "why"), *rows], right=(0,), shorten=2)


def _print_missing(found: RankTable) -> None:
    if not found.missing:
        print("no paper is missing: every paper that yours cite has details")
        return
    rows = [(f"{one.cited_by:,}", _year(one.year), one.title, one.crawl_id or "-") for one in found.missing]
    print()
    render.print_columns(
        [("cited by", "year", "missing paper", "refnet crawl"), *rows], right=(0,), shorten=2
    )


def _year(year: int | None) -> str:
    return str(year or "")


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
        print(*_done_lines(target.name, done), sep="\n")
    if done.stopped:
        complain(done.stopped)
    if done.failed or done.stopped:
        raise typer.Exit(Exit.FAILED)


def _done_lines(name: str, done: Summarized) -> Iterator[str]:
    yield f"{name}: {plural(done.made, 'paper')} summarized by {done.model}; {done.before:,} had a summary before"
    if done.without_abstract:
        yield f"  without an abstract: {plural(done.without_abstract, 'paper')}"
    if done.failed:
        yield f"  failed: {plural(done.failed, 'paper')}; see `refnet jobs --state failed`"
    if done.waiting:
        yield f"  waiting: {plural(done.waiting, 'paper')}; `refnet summarize` continues"
