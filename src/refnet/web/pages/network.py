"""`/network`: the size of the network, the list of papers, one paper with a picture of its neighbours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from refnet.core.errors import Exit, RefnetError
from refnet.network.papers import normalized
from refnet.network.search import SearchText
from refnet.postgres.embedded import NoServerError
from refnet.web import papers
from refnet.web.database import NetworkDatabase, NoTablesError
from refnet.web.pages.base import page
from refnet.web.pages.overview import trend
from refnet.web.picture import WIDTH, neighbours, picture

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
#: An address that may be a link.
_WEB_URL = re.compile(r"https?://[!-~]{1,2000}", re.ASCII)
#: Scheme that `refnet crawl` accepts → prefix of a seed; the best scheme first.
_SEEDS = {"semantic_scholar": "", "doi": "DOI:", "arxiv": "ARXIV:"}


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
        first=first, following=following, complete=found.complete, seed=_seed(SearchText.read(asked.q or "").ids),
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
        request, "network_paper.html.j2", paper=found, ids=ids, drawn=drawn, width=WIDTH,
        seed=_seed((one["scheme"], one["value"]) for one in ids if one["link"]),
        curve=curve(found["citation_counts"], found["details_fetched_at"]),
        pdf=found["open_access_url"] if _WEB_URL.fullmatch(found["open_access_url"] or "") else "",
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
    """Return why no network can be shown, or the way to the first crawl; the rest of the server works without one."""
    if isinstance(error, NoTablesError | NoServerError):
        return RedirectResponse("/network/crawls", 303)
    return page(request, "network_problem.html.j2", 200 if error.code is Exit.USAGE else 503, problem=error)


def link_of(scheme: str, value: str) -> str | None:
    """Return the link of an external id; None if it is not an id of a scheme with a known site."""
    if scheme not in _SITES or normalized(scheme, value) != value:
        return None
    return _SITES[scheme] + quote(value, safe="/:;()")


def _seed(ids: Iterable[tuple[str, str]]) -> str | None:
    """Return the id for `refnet crawl` among (scheme, value); None if there is none."""
    usable = dict(ids)
    return next((prefix + usable[scheme] for scheme, prefix in _SEEDS.items() if scheme in usable), None)


def _asked(given: Mapping[str, str]) -> papers.PapersQuery:
    """Check the parameters of the list, like the API; RequestValidationError if one is invalid."""
    try:
        return papers.PapersQuery.model_validate(given)
    except ValidationError as error:
        wrong = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(wrong) from None
