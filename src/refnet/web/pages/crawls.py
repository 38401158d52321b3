"""`/network/crawls`: crawls and their progress, jobs by state, failed jobs, and a form for a new crawl."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from refnet.core.errors import Exit, RefnetError
from refnet.network.crawl_order import DEEPEST
from refnet.network.jobs import STATES, counts, list_jobs
from refnet.web import work
from refnet.web.database import Database
from refnet.web.pages.layout import form, fragment, page
from refnet.web.pages.network import without_database
from refnet.web.papers import HIGHEST
from refnet.web.work import Number

router = APIRouter(prefix="/network/crawls", include_in_schema=False)
#: The most crawls, and the most failed jobs, on a page.
MOST = 20
Before = Annotated[Number, Query()]
Count = Annotated[int | None, Query(ge=0, le=HIGHEST)]
_EMPTY = {"seeds": "", "direction": "references", "depth": "1", "limit": "1000"}


@dataclass(frozen=True)
class _Shown:
    """The results of the user's last action."""

    #: The id of the started crawl, and the number of requeued jobs.
    started: int | None = None
    retried: int | None = None
    #: Why the action failed or is incomplete.
    problem: RefnetError | None = None
    #: The fields of the form.
    wanted: dict[str, str] = field(default_factory=lambda: _EMPTY)


@router.get("")
async def crawls(
    request: Request,
    before: Before = HIGHEST,
    failed_before: Before = HIGHEST,
    started: Count = None,
    retried: Count = None,
) -> Response:
    """Show crawls and jobs."""
    seeds = request.query_params.get("seeds", "")[:1000]
    shown = _Shown(started=started, retried=retried, wanted=_EMPTY | {"seeds": seeds})
    return await _page(request, shown, before, failed_before)


@router.get("/part")
async def part(request: Request, before: Before = HIGHEST) -> Response:
    """Return the part of the page that changes while a crawl runs."""
    return fragment(request, "crawls_part.html.j2", **await _standing(request, before))


@router.post("")
async def start(request: Request) -> Response:
    """Start the crawl of the form; its errors are shown beside the form."""
    wanted = _EMPTY | await form(request)
    try:
        order = _order(wanted)
        _, number, problem = await work.start(request.app.state.database, order)
    except RefnetError as error:
        if error.code is not Exit.USAGE:
            raise
        return await _page(request, _Shown(problem=error, wanted=wanted), status=400)
    if not problem:
        return RedirectResponse(f"/network/crawls?started={number}", 303)
    return await _page(request, _Shown(started=number, problem=_unsent(problem)))


@router.post("/retry")
async def retry(request: Request) -> Response:
    """Requeue one failed job, or all."""
    given = (await form(request)).get("job", "")
    if given and not (given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= HIGHEST):
        raise RefnetError("job must be the id of a job", "Choose a job on the page.", Exit.USAGE)
    count, problem = await work.retry(request.app.state.database, [int(given)] if given else [])
    if not problem:
        return RedirectResponse(f"/network/crawls?retried={count}", 303)
    return await _page(request, _Shown(retried=count, problem=_unsent(problem)))


def _unsent(problem: str) -> RefnetError:
    return RefnetError(
        f"no worker is processing it: {problem[:-1]}", "`refnet crawl` works on it without a worker."
    )


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
    request: Request, shown: _Shown, before: int = HIGHEST, failed_before: int = HIGHEST, status: int = 200
) -> Response:
    try:
        asked = partial(list_jobs, states=["failed"], before=failed_before, limit=MOST + 1)
        failed = await request.app.state.database.reading(asked)
        standing = await _standing(request, before)
    except RefnetError as error:
        return without_database(request, error)
    values = {"shown": shown, "failed": failed[:MOST], "deepest": DEEPEST}
    older = failed[MOST - 1].id if len(failed) > MOST else None
    return page(request, "crawls.html.j2", status, older_failed=older, **values, **standing)


async def _standing(request: Request, before: int) -> dict[str, Any]:
    """Return the values of the changing part: crawls, newest first; jobs by kind and state."""
    database: Database = request.app.state.database
    jobs = await database.reading(counts)
    listed, older = await work.listed_crawls(database, MOST, before)
    found = [_with_progress(json.loads(one)) for one in listed]
    values = {"states": STATES, "before": before, "newest": HIGHEST, "older": older}
    return {"crawls": found, "jobs": jobs, **values}


def _with_progress(crawl: dict[str, Any]) -> dict[str, Any]:
    jobs = crawl["jobs"]
    total, left = sum(jobs.values()), jobs.get("queued", 0) + jobs.get("running", 0)
    is_running = crawl["state"] == "running"
    waits = is_running and not jobs.get("running")
    return crawl | {"total": total, "done": total - left, "is_running": is_running, "waits": waits}
