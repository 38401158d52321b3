"""`/network`: the size of the network, the list of papers, one paper with a picture of its neighbours.

`/network/crawls`: crawls and their progress, jobs by state, failed jobs, and a form for a new crawl.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from refnet.core.errors import Exit, RefnetError
from refnet.network.crawls import DEEPEST
from refnet.network.jobs import STATES, counts, list_jobs
from refnet.network.papers import normalized
from refnet.web import papers, work
from refnet.web.database import NetworkDatabase, NoTablesError
from refnet.web.pages.base import form, fragment, page
from refnet.web.pages.overview import trend
from refnet.web.picture import WIDTH, neighbours, picture
from refnet.web.work import Number

router = APIRouter(include_in_schema=False)
#: The most references, and the most citing papers, on a page; the most crawls, and the most failed jobs.
LINKS, CRAWLS = 50, 20
#: Scheme of an external id → prefix of its link. Other schemes and malformed ids get no link.
_SITES = {
    "doi": "https://doi.org/",
    "arxiv": "https://arxiv.org/abs/",
    "semantic_scholar": "https://www.semanticscholar.org/paper/",
    "openalex": "https://openalex.org/",
    "pubmed": "https://pubmed.ncbi.nlm.nih.gov/",
    "pmc": "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC",
}
#: Scheme that `refnet crawl` accepts → prefix of a seed; the best scheme first.
_SEEDS = {"semantic_scholar": "", "doi": "DOI:", "arxiv": "ARXIV:"}
Before = Annotated[Number, Query()]
Count = Annotated[int | None, Query(ge=0, le=papers.HIGHEST)]
_EMPTY = {"seeds": "", "direction": "references", "depth": "1", "limit": "1000"}


@router.get("/network")
async def network(request: Request) -> Response:
    """Show the size of the network, and the matching papers, most cited first."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    asked = _asked(given)
    database: NetworkDatabase = request.app.state.database
    try:
        size, found = await papers.figures(database), await papers.listed(database, asked)
    except RefnetError as error:
        return without_database(request, error)
    listed = [json.loads(one) for one in found.papers]
    following = "/network?" + urlencode(given | {"cursor": found.next}) if found.next else ""
    first = "/network?" + urlencode({**given, "cursor": ""}) if asked.cursor else ""
    return page(
        request, "network.html.j2", size=size, papers=listed, asked_for=asked,
        first=first, following=following, complete=found.complete,
    )  # fmt: skip


@router.get("/network/papers/{id}")
async def paper(
    request: Request, number: Annotated[int, Path(alias="id", ge=1, le=papers.HIGHEST)]
) -> Response:
    """Show one paper with its metadata, texts and neighbours."""
    database: NetworkDatabase = request.app.state.database
    found = json.loads(await papers.one(database, number, LINKS))
    shown = [found, *(one for side in neighbours(found) for one in side)]
    drawn = picture(found, await papers.among(database, [one["id"] for one in shown]))
    ids = [one | {"link": link_of(one["scheme"], one["value"])} for one in found["external_ids"]]
    return page(
        request, "network_paper.html.j2", paper=found, ids=ids, seed=_seed(ids), drawn=drawn, width=WIDTH,
        curve=curve(found["citation_counts"], found["details_fetched_at"]),
    )  # fmt: skip


def curve(counts: Sequence[Mapping[str, Any]], until: str | None) -> str:
    """Return the points of an SVG line of the citations by date, a step for each change; "" if there was none.

    until: when the last count was confirmed, as an ISO 8601 time.
    """
    try:
        days = [(datetime.fromisoformat(one["day"]), int(one["citation_count"])) for one in counts]
        end = datetime.fromisoformat(until[:10]) if until else None
    except ValueError:  # a date that only PostgreSQL has
        return ""
    steps = [step for (_, old), (day, new) in pairwise(days) for step in ((day, old), (day, new))]
    last = [(max(end, days[-1][0]), days[-1][1])] if days and end else []
    return trend([*days[:1], *steps, *last]) if steps else ""


def without_database(request: Request, error: RefnetError) -> Response:
    """Return a page with the reason why no network can be shown; the rest of the server works without one."""
    nothing_yet = isinstance(error, NoTablesError) or error.code is Exit.USAGE
    status = 200 if nothing_yet else 503
    return page(request, "network_problem.html.j2", status, problem=error)


def link_of(scheme: str, value: str) -> str | None:
    """Return the link of an external id; None if it is not an id of a scheme with a known site."""
    if scheme not in _SITES or normalized(scheme, value) != value:
        return None
    return _SITES[scheme] + quote(value, safe="/:;()")


def _seed(ids: list[dict[str, Any]]) -> str | None:
    """Return the paper's id for `refnet crawl`; None if there is none."""
    usable = {one["scheme"]: one["value"] for one in ids if one["link"]}
    return next((prefix + usable[scheme] for scheme, prefix in _SEEDS.items() if scheme in usable), None)


def _asked(given: Mapping[str, str]) -> papers.PapersQuery:
    """Check the parameters of the list, like the API; RequestValidationError if one is invalid."""
    try:
        return papers.PapersQuery.model_validate(given)
    except ValidationError as error:
        wrong = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(wrong) from None


@dataclass(frozen=True)
class _LastAction:
    """The results of the user's last action."""

    #: The id of the started crawl, and the number of requeued jobs.
    started: int | None = None
    retried: int | None = None
    #: Why the action failed or is incomplete.
    problem: RefnetError | None = None
    #: The fields of the form.
    wanted: dict[str, str] = field(default_factory=lambda: _EMPTY)


@router.get("/network/crawls")
async def crawls(
    request: Request,
    before: Before = papers.HIGHEST,
    failed_before: Before = papers.HIGHEST,
    started: Count = None,
    retried: Count = None,
) -> Response:
    """Show crawls and jobs."""
    seeds = request.query_params.get("seeds", "")[:1000]
    shown = _LastAction(started=started, retried=retried, wanted=_EMPTY | {"seeds": seeds})
    return await _page(request, shown, before, failed_before)


@router.get("/network/crawls/part")
async def part(request: Request, before: Before = papers.HIGHEST) -> Response:
    """Return the part of the page that changes while a crawl runs."""
    return fragment(request, "crawls_part.html.j2", **await _standing(request, before))


@router.post("/network/crawls")
async def start(request: Request) -> Response:
    """Start the crawl of the form; its errors are shown beside the form."""
    wanted = _EMPTY | await form(request)
    try:
        order = _order(wanted)
        _, number, problem = await work.start(request.app.state.database, order)
    except RefnetError as error:
        if error.code is not Exit.USAGE:
            raise
        return await _page(request, _LastAction(problem=error, wanted=wanted), status=400)
    if not problem:
        return RedirectResponse(f"/network/crawls?started={number}", 303)
    return await _page(request, _LastAction(started=number, problem=_unsent(problem)))


@router.post("/network/crawls/retry")
async def retry(request: Request) -> Response:
    """Requeue one failed job, or all."""
    given = (await form(request)).get("job", "")
    if given and not (
        given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= papers.HIGHEST
    ):
        raise RefnetError("job must be the id of a job", "Choose a job on the page.", Exit.USAGE)
    count, problem = await work.retry(request.app.state.database, [int(given)] if given else [])
    if not problem:
        return RedirectResponse(f"/network/crawls?retried={count}", 303)
    return await _page(request, _LastAction(retried=count, problem=_unsent(problem)))


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
    except RefnetError as error:
        return without_database(request, error)
    values = {"shown": shown, "failed": failed[:CRAWLS], "deepest": DEEPEST}
    older = failed[CRAWLS - 1].id if len(failed) > CRAWLS else None
    return page(request, "crawls.html.j2", status, older_failed=older, **values, **standing)


async def _standing(request: Request, before: int) -> dict[str, Any]:
    """Return the values of the changing part: crawls, newest first; jobs by kind and state."""
    database: NetworkDatabase = request.app.state.database
    jobs = await database.reading(counts)
    listed, older = await work.listed_crawls(database, CRAWLS, before)
    found = [_with_progress(json.loads(one)) for one in listed]
    values = {"states": STATES, "before": before, "newest": papers.HIGHEST, "older": older}
    return {"crawls": found, "jobs": jobs, **values}


def _with_progress(crawl: dict[str, Any]) -> dict[str, Any]:
    jobs = crawl["jobs"]
    total, left = sum(jobs.values()), jobs.get("queued", 0) + jobs.get("running", 0)
    is_running = crawl["state"] == "running"
    waits = is_running and not jobs.get("running")
    return crawl | {"total": total, "done": total - left, "is_running": is_running, "waits": waits}
