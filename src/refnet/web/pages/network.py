"""`/network`: the size of the network, the list of papers, one paper with a picture of its neighbours.

`/network/crawls`: crawls and their progress, jobs by state, failed jobs, and a form for a new crawl.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
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
from refnet.web.work import Number

router = APIRouter(include_in_schema=False)
#: The most references, and the most citing papers, on a page; the most crawls, and the most failed jobs.
LINKS, CRAWLS = 50, 20
#: Of the picture: the most neighbours, the most lines among them, the width of a label in columns (two per Japanese
#: character).
NEIGHBOURS, LINES, COLUMNS = 40, 300, 40
#: In its units: width, height of a row, half width of the ring, margin above and below.
WIDTH, ROW, RADIUS, FRAME = 1100, 26, 170, 40
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
        request, "network_paper.html.j2", paper=found, ids=ids, seed=_seed(ids), drawn=drawn, width=WIDTH
    )  # fmt: skip


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
class Node:
    """One paper of the picture."""

    id: int
    #: The complete title, and the title cut to `COLUMNS`.
    title: str
    label: str
    year: int | None
    #: As counted by the provider; None: unknown.
    citations: int | None
    #: seed, reference (cited by the seed), citing (cites the seed), or both.
    kind: str
    #: The centre and the radius of the circle.
    x: float
    y: float
    radius: float

    @property
    def side(self) -> int:
        """The position of the label: -1 on the left, 1 on the right, 0 in the middle."""
        return (self.x > WIDTH / 2) - (self.x < WIDTH / 2)


@dataclass(frozen=True)
class Picture:
    """The seed in the centre, references on the left of a ring, citing papers on the right."""

    height: int
    #: The seed first, then each side, oldest first.
    nodes: Sequence[Node]
    #: For each citation: `d` of an SVG path, and whether the seed is an end.
    lines: Sequence[tuple[str, bool]]


def neighbours(paper: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the references and the citing papers to show, the most cited of each.

    A paper that is both counts as a reference. A side leaves unused places to the other side.
    """
    references = paper["references"]["papers"]
    known = {one["id"] for one in references}
    citing = [one for one in paper["citations"]["papers"] if one["id"] not in known]
    left = min(len(references), max(NEIGHBOURS // 2, NEIGHBOURS - len(citing)))
    return references[:left], citing[: NEIGHBOURS - left]


def picture(paper: Mapping[str, Any], citations: Iterable[tuple[int, int]]) -> Picture:
    """Return the picture of `paper`, an answer of the API.

    citations: among the shown papers: ids of citing and cited paper.
    """
    left, right = neighbours(paper)
    back = {one["id"] for one in paper["citations"]["papers"]}
    height = max(len(left), len(right), 6) * ROW + 2 * FRAME
    nodes = [_node(paper, "seed", WIDTH / 2, height / 2)]
    for ones, kind, side in ((left, "reference", -1), (right, "citing", 1)):
        ordered = sorted(ones, key=lambda one: (one["year"] or 0, one["id"]))
        for row, one in enumerate(ordered):
            y = height / 2 + (row - (len(ordered) - 1) / 2) * ROW
            # on an ellipse, with rows of equal height, so that no label covers another
            part = (y - height / 2) / (height / 2)
            x = WIDTH / 2 + side * RADIUS * (0.25 + 0.75 * math.sqrt(1 - part * part))
            nodes.append(_node(one, "both" if side < 0 and one["id"] in back else kind, x, y))
    places = {node.id: node for node in nodes}
    lines = [
        (_path(places[citing], places[cited], height), paper["id"] in {citing, cited})
        for citing, cited in citations
        if citing in places and cited in places
    ]
    return Picture(height, nodes, lines[:LINES])


def _node(paper: Mapping[str, Any], kind: str, x: float, y: float) -> Node:
    title = paper["title"] or f"#{paper['id']}"
    radius = 12.0 if kind == "seed" else min(9.0, 3 + math.log10(1 + (paper["citation_count"] or 0)))
    return Node(
        paper["id"], title, shortened(title), paper["year"], paper["citation_count"], kind,
        round(x, 1), round(y, 1), round(radius, 1),
    )  # fmt: skip


def _path(one: Node, other: Node, height: float) -> str:
    """Return a curve between two nodes, bent towards the middle."""
    middle = ((one.x + other.x) / 4 + WIDTH / 4, (one.y + other.y) / 4 + height / 4)
    return f"M{one.x:g} {one.y:g}Q{middle[0]:.1f} {middle[1]:.1f} {other.x:g} {other.y:g}"


def shortened(text: str, columns: int = COLUMNS) -> str:
    """Cut `text` to `columns`, with an ellipsis."""
    used = 0
    for place, one in enumerate(text):
        used += 2 if unicodedata.east_asian_width(one) in "WF" else 1
        if used > columns:
            return text[: max(0, place - 1)].rstrip() + "…"
    return text


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
