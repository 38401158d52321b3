"""`/network/crawls`: crawls and their progress, started, stopped and continued; ranks, summaries and notes; jobs.

Without a database, or without its tables, the page offers the first crawl, whose process makes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from refnet.core.errors import Exit, RefnetError
from refnet.network.crawls import DEEPEST, CrawlOrder, order
from refnet.network.jobs import STATES, counts, list_jobs
from refnet.postgres.embedded import NoServerError
from refnet.web import papers, work
from refnet.web.children import BusyError, Child
from refnet.web.database import NetworkDatabase, NoTablesError
from refnet.web.pages.base import RUNS, begin, children_of, form, fragment, page, reading
from refnet.web.pages.network import without_database
from refnet.web.work import CRAWL, Number

router = APIRouter(prefix="/network", include_in_schema=False)
#: The most crawls, and the most failed jobs; the most ended runs that are shown; the most seeds of a first crawl.
CRAWLS, ENDED, FIRST_SEEDS = 20, 5, 50
#: Command that this page starts → title of its run.
STEPS = {"rank": "Rank the papers", "summarize": "Summarize the papers", "notes": "Write the notes"}
Before = Annotated[Number, Query()]
Count = Annotated[int | None, Query(ge=0, le=papers.HIGHEST)]
CrawlId = Annotated[int, Path(alias="id", ge=1, le=papers.HIGHEST)]
_EMPTY = {"seeds": "", "direction": "references", "depth": "1", "limit": "1000"}


@dataclass(frozen=True)
class _LastAction:
    """The results of the user's last action."""

    #: The id of the started or stopped crawl, and the number of requeued jobs.
    started: int | None = None
    stopped: int | None = None
    retried: int | None = None
    #: Why the action failed or is incomplete.
    problem: RefnetError | None = None
    #: The fields of the form.
    wanted: dict[str, str] = field(default_factory=lambda: _EMPTY)


@router.get("/crawls")
async def crawls(
    request: Request,
    before: Before = papers.HIGHEST,
    failed_before: Before = papers.HIGHEST,
    started: Count = None,
    stopped: Count = None,
    retried: Count = None,
) -> Response:
    """Show crawls, runs and jobs."""
    seeds = request.query_params.get("seeds", "")[:1000]
    shown = _LastAction(started, stopped, retried, wanted=_EMPTY | {"seeds": seeds})
    return await _page(request, shown, before, failed_before)


@router.get("/crawls/part")
async def part(request: Request, before: Before = papers.HIGHEST) -> Response:
    """Return the part of the page that changes while a crawl runs."""
    try:
        return fragment(request, "crawls_part.html.j2", **await _standing(request, before))
    except (NoTablesError, NoServerError):
        return fragment(request, "crawls_part.html.j2", **await _nothing(request))


@router.post("/crawls")
async def start(request: Request) -> Response:
    """Start the crawl of the form; its errors are shown beside the form."""
    wanted = _EMPTY | await form(request)
    try:
        asked = _order(wanted)
        _, begun = await work.start(request, asked)
    except (NoTablesError, NoServerError):
        return await _start_first(request, asked, wanted)
    except RefnetError as error:
        if error.code is not Exit.USAGE:
            raise
        return await _page(request, _LastAction(problem=error, wanted=wanted), status=400)
    return await _begun(request, begun)


async def _start_first(request: Request, asked: work.NewCrawl, wanted: dict[str, str]) -> Response:
    """Start a crawl as a process that makes the database and its tables."""
    try:
        await begin(
            request, _words(asked), kind=CRAWL, source="", title="First crawl", exclusive="crawl:first"
        )
    except RefnetError as error:
        return await _page(request, _LastAction(problem=error, wanted=wanted), status=400)
    return RedirectResponse("/network/crawls?started=0", 303)


def _words(wanted: work.NewCrawl) -> list[str]:
    """Return the command line of a crawl with few seeds; RefnetError (USAGE) for invalid or too many ones."""
    asked: CrawlOrder = order(wanted.seeds, wanted.direction, wanted.depth, wanted.limit)
    if len(asked.seeds) > FIRST_SEEDS:
        raise RefnetError(
            f"{len(asked.seeds)} seeds are too many for a first crawl, which has {FIRST_SEEDS} at most",
            "Begin with fewer, and start another crawl then.",
            Exit.USAGE,
        )
    bounds = (f"--direction={asked.direction}", f"--depth={asked.depth}", f"--limit={asked.limit}")
    return [CRAWL, *asked.seeds, *bounds]


@router.post("/crawls/retry")
async def retry(request: Request) -> Response:
    """Requeue one failed job, or all."""
    given = (await form(request)).get("job", "")
    if given and not (
        given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= papers.HIGHEST
    ):
        raise RefnetError("job must be the id of a job", "Choose a job on the page.", Exit.USAGE)
    count, problem = await work.retry(request, [int(given)] if given else [])
    if not problem:
        return RedirectResponse(f"/network/crawls?retried={count}", 303)
    return await _page(request, _LastAction(retried=count, problem=_unsent(problem)))


@router.post("/crawls/{id}/resume")
async def resume(request: Request, number: CrawlId) -> Response:
    """Continue a crawl."""
    return await _begun(request, await work.resume(request, number))


@router.post("/crawls/{id}/stop")
async def stop(request: Request, number: CrawlId) -> Response:
    """Cancel a crawl."""
    await work.stop(request, number)
    return RedirectResponse(f"/network/crawls?stopped={number}", 303)


@router.post("/steps")
async def step(request: Request) -> Response:
    """Rank or summarize the papers, or write their notes, and redirect to the run."""
    name = (await form(request)).get("step", "")
    if name not in STEPS:
        raise RefnetError("the form names no step of this page", "Choose it on /network/crawls.", Exit.USAGE)
    try:
        child = await begin(
            request, [name], kind=name, source="", title=STEPS[name], exclusive=f"network:{name}"
        )
    except BusyError as busy:
        child = busy.child
    return RedirectResponse(f"/runs/{child.id}", 303)


async def _begun(request: Request, begun: work.Begun) -> Response:
    if not begun.problem:
        return RedirectResponse(f"/network/crawls?started={begun.crawl}", 303)
    return await _page(request, _LastAction(started=begun.crawl, problem=_unsent(begun.problem)))


def _unsent(problem: str) -> RefnetError:
    return RefnetError(f"nothing is processing it: {problem[:-1]}", work.WITHOUT)


def _order(wanted: dict[str, str]) -> work.NewCrawl:
    """Parse the form of a crawl; RefnetError (USAGE) for an invalid field."""
    given = {name: wanted[name] for name in ("direction", "depth", "limit")}
    try:
        return work.NewCrawl.model_validate({"seeds": wanted["seeds"].split(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "crawl"
        raise RefnetError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}", "Correct it in the form.", Exit.USAGE
        ) from None


async def _page(
    request: Request,
    shown: _LastAction,
    before: int = papers.HIGHEST,
    failed_before: int = papers.HIGHEST,
    status: int = 200,
) -> Response:
    try:
        asked = partial(list_jobs, states=["failed"], before=failed_before, limit=CRAWLS + 1)
        failed = await request.app.state.database.reading(asked)
        standing = await _standing(request, before)
    except (NoTablesError, NoServerError):
        failed, standing = [], await _nothing(request)
    except RefnetError as error:
        return without_database(request, error)
    values = {"shown": shown, "failed": failed[:CRAWLS], "deepest": DEEPEST, "steps": STEPS}
    older = failed[CRAWLS - 1].id if len(failed) > CRAWLS else None
    return page(request, "crawls.html.j2", status, older_failed=older, **values, **standing)


async def _standing(request: Request, before: int) -> dict[str, Any]:
    """Return the values of the changing part: crawls, newest first; jobs by kind and state; runs."""
    database: NetworkDatabase = request.app.state.database
    jobs = await database.reading(counts)
    listed, older = await work.listed_crawls(database, CRAWLS, before)
    runs = await _runs(request)
    active = {one.exclusive: one for one in runs if one.running}
    found = [_with_progress(json.loads(one), active) for one in listed]
    values = {"states": STATES, "before": before, "newest": papers.HIGHEST, "older": older}
    return {"crawls": found, "jobs": jobs, "runs": runs, "is_first": False, **values}


async def _nothing(request: Request) -> dict[str, Any]:
    """Return the values of the changing part while there is no database."""
    values = {"states": STATES, "before": papers.HIGHEST, "newest": papers.HIGHEST, "older": None}
    return {"crawls": [], "jobs": {}, "runs": await _runs(request), "is_first": True, **values}


async def _runs(request: Request) -> Sequence[Child]:
    """Return the running processes of the network, and the last ones that ended."""
    children = await reading(request, RUNS, children_of(request).all)
    found = [one for one in children if one.kind in {CRAWL, *STEPS}]
    return [*(one for one in found if one.running), *[one for one in found if not one.running][:ENDED]]


def _with_progress(crawl: dict[str, Any], active: dict[str, Child]) -> dict[str, Any]:
    jobs = crawl["jobs"]
    total, left = sum(jobs.values()), jobs.get("queued", 0) + jobs.get("running", 0)
    is_running, run = crawl["state"] == "running", active.get(work.key(crawl["id"]))
    waits = is_running and not jobs.get("running") and not run
    return crawl | {
        "total": total,
        "done": total - left,
        "is_running": is_running,
        "waits": waits,
        "run": run,
    }
