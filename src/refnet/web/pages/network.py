"""`/network`: the size of the network, the list of papers, and one paper with its neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from refnet.core.errors import Exit, RefnetError
from refnet.network.papers import normalized
from refnet.web import graph, papers
from refnet.web.database import Database, NoTablesError
from refnet.web.pages.layout import page

router = APIRouter(include_in_schema=False)
#: The most references, and the most citing papers, on a page.
LINKS = 50
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


@router.get("/network")
async def network(request: Request) -> Response:
    """Show the size of the network, and the matching papers, most cited first."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    asked = _asked(given)
    database: Database = request.app.state.database
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
    database: Database = request.app.state.database
    found = json.loads(await papers.one(database, number, LINKS))
    shown = [found, *(one for side in graph.neighbours(found) for one in side)]
    drawn = graph.picture(found, await papers.among(database, [one["id"] for one in shown]))
    ids = [one | {"link": link_of(one["scheme"], one["value"])} for one in found["external_ids"]]
    return page(
        request, "network_paper.html.j2", paper=found, ids=ids, seed=_seed(ids), drawn=drawn, width=graph.WIDTH
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


def _asked(given: Mapping[str, str]) -> papers.Listed:
    """Check the parameters of the list, like the API; RequestValidationError if one is invalid."""
    try:
        return papers.Listed.model_validate(given)
    except ValidationError as error:
        wrong = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(wrong) from None
