"""`refnet crawl` and `refnet jobs`: collect papers, and see or retry the work that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from refnet import servers
from refnet.actions.watching import open_watch
from refnet.catalog.artifact import Counted
from refnet.catalog.run import Reason, RunKind
from refnet.cli import options
from refnet.cli.command import spread
from refnet.cli.context import current_settings, note, print_json, progress, wants_step_lines, warn, would
from refnet.cli.find_papers import SeedOptions, choose, planned
from refnet.cli.output import output, say
from refnet.cli.render import print_columns
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import local, plain, plural, seconds
from refnet.network import SESSION, known, server_errors
from refnet.network import jobs as table
from refnet.network.crawls import DEEPEST, CrawlOrder, CrawlResult, CrawlStanding, Direction, order
from refnet.network.jobs import STATES, ListedJob
from refnet.servers import ActsOn
from refnet.settings import Settings
from refnet.telemetry.notify import sender

if TYPE_CHECKING:
    from refnet.network.find_papers import FoundPapers
    from refnet.network.report_update import ReportedUpdate

#: The highest number of a crawl: PostgreSQL's bigint.
HIGHEST = 2**63 - 1
_HINT = "`refnet network migrate` creates the network's tables."


@spread
def crawl(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="A DOI, an arXiv id, a URL …; default: unfinished crawls."),
    ] = None,
    *,
    seeds: SeedOptions,
    depth: Annotated[
        int, typer.Option(min=0, max=DEEPEST, metavar="N", help="The distance from the given papers.")
    ] = 1,
    limit: Annotated[
        int,
        typer.Option(min=1, max=10_000_000, metavar="N", help="The maximum number of papers with details."),
    ] = 1000,
    direction: Annotated[
        Direction,
        typer.Option(parser=Direction, metavar="references|citations|both", help="The citations to follow."),
    ] = Direction.REFERENCES,
    update: Annotated[
        bool, typer.Option("--update", help="Find new papers that cite the seeds of all crawls.")
    ] = False,
    resume: Annotated[
        int | None,
        typer.Option(min=1, max=HIGHEST, metavar="CRAWL", help="Continue this crawl, also a stopped one."),
    ] = None,
    stop: Annotated[
        int | None,
        typer.Option(min=1, max=HIGHEST, metavar="CRAWL", help="Stop this crawl; what it collected stays."),
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Collect papers and citations from Semantic Scholar.

    A crawl that was interrupted continues where it was; several runs share one.
    """
    if sum(map(bool, (ids or seeds.given or update, resume, stop))) > 1:
        raise RefnetError(
            "seeds, --update, --resume and --stop exclude each other", "Give one of them.", Exit.USAGE
        )
    settings = current_settings()
    if update and (ids or seeds.given):
        raise RefnetError("--update takes no other seeds", "Omit them, or omit --update.", Exit.USAGE)
    if plan and settings.database_url:
        servers.server(settings).connect().close()
    if stop or resume:
        _resume_or_stop(settings, resume, stop, plan=plan, as_json=as_json)
        return
    if seeds.given and would(planned(settings, seeds), plan=plan):
        return
    found = choose(settings, seeds, as_json=as_json) if seeds.given else None
    ids = [*(ids or ()), *(one.id for one in found.candidates)] if found else ids
    wanted = order(ids, direction, depth, limit) if ids else None
    if would(_plan(settings, wanted, limit if update else None), plan=plan):
        return
    results, reported = _collected(settings, wanted, limit if update else None)
    _print(settings, results, reported, found, as_json=as_json)
    if not all(one.is_complete for one in results):
        raise typer.Exit(Exit.FAILED)


def _collected(
    settings: Settings, wanted: CrawlOrder | None, new: int | None, resumed: int | None = None
) -> tuple[list[CrawlResult], list[ReportedUpdate]]:
    """Run a crawl, an update of at most `new` new papers, or `resumed`; without any, what is unfinished."""
    from refnet.network.crawl import CrawlReports, run, start, start_update, unfinished
    from refnet.network.migrate import migrate
    from refnet.network.report_update import report_update

    target = servers.server(settings) if wanted else servers.existing_server(settings)
    migrate(target)
    if new is not None:
        crawls = [start_update(target, new)]
    else:
        crawls = [start(target, wanted)] if wanted else [resumed] if resumed else unfinished(target)
    watched = open_watch(Context(settings, note=note)).run(RunKind.CRAWL) if crawls else nullcontext()
    with _shown() as standing, watched as at_work:
        results = [run(target, settings, one, CrawlReports(standing, note)) for one in crawls]
        if at_work and (problem := next(filter(None, (one.problem for one in results)), "")):
            at_work.failed(Reason.OTHER, plain(problem))
    send = sender(settings.notify_urls)
    with progress("vault") as shown:
        reports = (report_update(target, settings, one.crawl, send, shown) for one in results)
        reported = [one for one in reports if one]
    for one in reported:
        warn(one.failures)
    return results, reported


def _plan(settings: Settings, wanted: CrawlOrder | None, new: int | None) -> str:
    where = ActsOn.of(settings).shown
    if new is not None:
        return (
            f"collect what cites the seeds of all crawls, and the details of at most {plural(new, 'new paper')},"
            f" from {settings.crawl_semantic_scholar_url} into {where}; renew the details of the papers there"
        )
    if wanted is None:
        return f"continue the unfinished crawls in {where}"
    rate = settings.crawl_requests_per_second
    return (
        f"collect the {wanted.direction} of {plural(len(wanted.seeds), 'paper')} to depth {wanted.depth}, at most"
        f" {plural(wanted.limit, 'paper')}, from {settings.crawl_semantic_scholar_url}"
        f" ({f'at most {rate:g} a second' if rate else 'no rate limit'}) into {where}: {', '.join(wanted.seeds)}"
    )


def _print(
    settings: Settings,
    results: list[CrawlResult],
    reported: list[ReportedUpdate],
    found: FoundPapers | None,
    *,
    as_json: bool,
) -> None:
    acts_on = ActsOn.of(settings)
    if as_json:
        more: dict[str, Any] = {"found": found.to_json()} if found else {}
        more |= {"news": [one.news.to_json() for one in reported]} if reported else {}
        print_json({"crawls": [one.to_json() for one in results], **more, **acts_on.to_json()})
        return
    say(str(acts_on))
    for one in results:
        for line in one.lines():
            say(plain(line))
    for update in reported:
        for line in update.news.lines():
            say(plain(line))
        for path in update.vault.views if update.vault else ():
            say(f"  in the vault: {plain(path)}")
    if not results:
        say("no crawl is unfinished; `refnet crawl ID` starts one")


def _resume_or_stop(
    settings: Settings, resume: int | None, stop: int | None, *, plan: bool, as_json: bool
) -> None:
    """Continue or cancel one crawl by its number."""
    acts_on = ActsOn.of(settings)
    if would(f"{'continue' if resume else 'stop'} crawl {resume or stop} in {acts_on.shown}", plan=plan):
        return
    from refnet.network import crawl as crawling
    from refnet.network.migrate import migrate

    target = servers.existing_server(settings)
    migrate(target)
    if resume:
        crawling.resume(target, resume)
        results, reported = _collected(settings, None, None, resume)
        _print(settings, results, reported, None, as_json=as_json)
        if not all(one.is_complete for one in results):
            raise typer.Exit(Exit.FAILED)
    elif stop:
        crawling.stop(target, stop)
        if as_json:
            print_json({"stopped": stop, **acts_on.to_json()})
            return
        say(str(acts_on))
        say(f"crawl {stop} is stopped; `refnet crawl --resume {stop}` continues it")


@contextmanager
def _shown() -> Iterator[Callable[[CrawlStanding], None] | None]:
    """Show the progress of a crawl on a terminal, or as lines of JSON: the jobs of each level."""
    if wants_step_lines():
        with progress("crawl") as shown:
            yield lambda one: shown(Counted(f"level {one.level}", "jobs"), one.done, one.done + one.queue)
        return
    if not output.has_progress:
        yield None
        return

    with Console(stderr=True).status("crawl") as status:
        first: list[CrawlStanding] = []

        def show(one: CrawlStanding) -> None:
            first[:] = first or [one]
            status.update(f"[default]{_line(one, first[0])}")

        yield show


def _line(one: CrawlStanding, first: CrawlStanding) -> str:
    done, took = one.done - first.done, one.seconds - first.seconds
    left = f", {seconds(one.queue * took / done)} left" if done and took else ""
    return (
        f"level {one.level}: {one.papers:,} papers, {one.edges:,} citations, {one.rate:.1f} requests/s,"
        f" {one.queue:,} queued{left}"
    )


def jobs(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="With --retry: these jobs.")
    ] = None,
    *,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="queued, running, succeeded, failed or cancelled.",
            autocompletion=lambda: [*STATES],
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="The maximum number of jobs to list.")
    ] = 20,
    retry: Annotated[bool, typer.Option("--retry", help="Retry failed jobs; default: all.")] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """List the jobs of the network, or retry those that failed.

    A job that failed for good stays until it is retried.
    """
    _check(ids, state, table.STATES, retry=retry, plan=plan)
    settings = current_settings()
    target = known(servers.existing_server(settings))
    with server_errors(target, "has no jobs", _HINT), target.connect(SESSION) as session:
        if retry:
            retried = table.retry_jobs(session, ids or (), plan=plan)
        else:
            listed = table.list_jobs(session, states=[state] if state else (), limit=limit)
            counts = table.counts(session)
    if retry:
        _print_retried(settings, retried, ids or [], plan=plan, as_json=as_json)
    elif as_json:
        jobs_json = [one.to_json() for one in listed]
        print_json({"counts": counts, "jobs": jobs_json, **ActsOn.of(settings).to_json()})
    else:
        _print_jobs(settings, listed, counts)


def _check(
    ids: list[int] | None, state: str | None, states: tuple[str, ...], *, retry: bool, plan: bool
) -> None:
    if (ids or plan) and not retry:
        raise RefnetError("ID and --plan are for --retry only", "Add --retry.", Exit.USAGE)
    if state not in {None, *states}:
        raise RefnetError(
            f"--state {state!r} is not a state of jobs", f"Use one of {', '.join(states)}.", Exit.USAGE
        )


def _print_retried(
    settings: Settings, retried: list[int], ids: list[int], *, plan: bool, as_json: bool
) -> None:
    other = sorted({*ids} - {*retried})
    if as_json:
        print_json({"plan": plan, "retried": retried, "not_failed": other, **ActsOn.of(settings).to_json()})
    else:
        print(ActsOn.of(settings))
        listed = f": {', '.join(map(str, retried))}" if retried else ""
        print(f"{plural(len(retried), 'failed job')} {'would be ' if plan else ''}queued again{listed}")
    if other:
        raise RefnetError(
            f"{plural(len(other), 'job')} {'has' if len(other) == 1 else 'have'} not failed:"
            f" {', '.join(map(str, other[:10]))}",
            "`refnet jobs --state failed` lists those that have.",
        )


def _print_jobs(settings: Settings, listed: list[ListedJob], counts: dict[str, dict[str, int]]) -> None:
    print(ActsOn.of(settings))
    for kind, states in counts.items():
        print(f"{kind}: {', '.join(f'{number:,} {state}' for state, number in states.items())}")
    if not listed:
        print("no jobs")
        return
    head = ("id", "kind", "state", "attempts", "created", "error")
    rows = [
        (
            str(one.id),
            one.kind,
            one.state,
            f"{one.attempts}/{one.max_attempts}",
            local(one.created_at),
            one.error or "",
        )
        for one in listed
    ]
    print_columns([head, *rows], right=(0,))
