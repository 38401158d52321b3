"""`/api/jobs` and `/api/crawls`: jobs and crawls, and the only path of the API that changes something."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from refnet.core.errors import RefnetError
from refnet.core.extras import needed
from refnet.network import SESSION
from refnet.network.crawls import DEEPEST, CrawlOrder, Direction, order
from refnet.network.jobs import list_jobs, retry_jobs
from refnet.postgres.session import Target
from refnet.settings import Settings
from refnet.web.answers import json_of, json_text
from refnet.web.database import NetworkDatabase
from refnet.web.papers import HIGHEST, MOST

router = APIRouter(prefix="/api")
#: The most seeds of one request.
SEEDS = 1000
_CRAWLS = """SELECT c.id, json_build_object('id', c.id, 'seeds', c.seeds[:{seeds}], 'seed_count', cardinality(c.seeds),
        'direction', c.direction, 'depth', c.depth, 'limit', c.paper_limit, 'level', c.level, 'state', c.state,
        'created_at', c.created_at, 'finished_at', c.finished_at,
        'papers', (SELECT count(*) FROM crawl_papers p WHERE p.crawl_id = c.id),
        'jobs', (SELECT coalesce(json_object_agg(state, number), '{{}}') FROM (
            SELECT state, count(*) AS number FROM jobs j WHERE j.crawl_id = c.id GROUP BY state) _))::text
    FROM crawls c WHERE {where} ORDER BY c.id DESC LIMIT %(limit)s"""
_LISTED = _CRAWLS.format(seeds=10, where="c.id < %(before)s")
_ONE = _CRAWLS.format(seeds=10_000, where="c.id = %(id)s")
_CRAWLS_OF = (
    "SELECT DISTINCT crawl_id FROM jobs WHERE id = ANY (%s) AND crawl_id IS NOT NULL ORDER BY crawl_id"
)
Number = Annotated[int, Field(ge=1, le=HIGHEST)]


class NewCrawl(BaseModel):
    """The order of a crawl."""

    model_config = ConfigDict(extra="forbid")
    seeds: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=SEEDS)]
    direction: Direction = Direction.REFERENCES
    depth: Annotated[int, Field(ge=0, le=DEEPEST)] = 1
    limit: Annotated[int, Field(ge=1, le=10_000_000)] = 1000


@router.get("/jobs", tags=["work"])
async def jobs(
    request: Request,
    state: Annotated[Literal["queued", "running", "succeeded", "failed", "cancelled"] | None, Query()] = None,
    kind: Annotated[str | None, Query(pattern="^[a-z][a-z0-9_]{0,99}$")] = None,
    crawl: Annotated[Number | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    before: Annotated[Number | None, Query(description="`next` of the last page.")] = None,
) -> Response:
    """List jobs, newest first. Failed jobs stay; `refnet jobs --retry` requeues them."""
    database: NetworkDatabase = request.app.state.database
    states, kinds = [state] if state else [], [kind] if kind else []
    asked = partial(list_jobs, states=states, kinds=kinds, crawl=crawl, before=before, limit=limit + 1)
    found = await database.reading(asked)
    following = found[limit - 1].id if len(found) > limit else None
    return json_of({"jobs": [one.to_json() for one in found[:limit]], "next": following})


@router.get("/crawls", tags=["work"])
async def crawls(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    before: Annotated[Number, Query(description="`next` of the last page.")] = HIGHEST,
) -> Response:
    """List crawls, newest first, each with the number of papers, jobs by state, and the first 10 seeds."""
    found, following = await listed_crawls(request.app.state.database, limit, before)
    return json_text(f'{{"crawls": [{", ".join(found)}], "next": {following or "null"}}}\n')


async def listed_crawls(
    database: NetworkDatabase, limit: int, before: int = HIGHEST
) -> tuple[list[str], int | None]:
    """Return the newest crawls with ids below `before`, each as JSON, and `before` for the next page."""
    rows = await database.rows(_LISTED, {"before": before, "limit": limit + 1})
    return [row[1] for row in rows[:limit]], rows[limit - 1][0] if len(rows) > limit else None


@router.get("/crawls/{id}", tags=["work"])
async def crawl(request: Request, number: Annotated[int, Path(alias="id", ge=1, le=HIGHEST)]) -> Response:
    """Show one crawl with all seeds."""
    rows = await request.app.state.database.rows(_ONE, {"id": number, "limit": 1})
    if not rows:
        raise HTTPException(404, f"there is no crawl {number}")
    return json_text(f"{rows[0][1]}\n")


@router.post("/crawls", tags=["work"], status_code=202)
async def start_crawl(request: Request, wanted: NewCrawl) -> Response:
    """Store a crawl and send it to the workers, or continue an unfinished crawl of the same order.

    Without a broker the crawl stays queued: `sent` is false, and `refnet crawl` runs it.
    """
    asked, number, problem = await start(request.app.state.database, wanted)
    hint = {"hint": f"{problem} `refnet crawl` works on it without a worker."} if problem else {}
    return json_of({"id": number, **asked.to_json(), "sent": not problem, **hint}, 202)


async def start(database: NetworkDatabase, wanted: NewCrawl) -> tuple[CrawlOrder, int, str]:
    """Store and send a crawl; return its order, its id, and why it was not sent ("": it was sent)."""
    asked = order(wanted.seeds, wanted.direction, wanted.depth, wanted.limit)

    def stored(target: Target) -> tuple[int, str]:
        with needed("network"):
            from refnet.network.crawl import start
        number = start(target, asked)
        return number, _send(database.settings, [number])

    return asked, *await database.threaded(stored)


async def retry(database: NetworkDatabase, ids: list[int]) -> tuple[int, str]:
    """Requeue failed jobs (empty: all) like `refnet jobs --retry`, and send their crawls.

    Return the number of jobs, and why the crawls were not sent ("": they were sent).
    """

    def queued(target: Target) -> tuple[int, str]:
        with target.connect(SESSION) as session:
            retried = retry_jobs(session, ids)
            rows = session.execute(_CRAWLS_OF, [retried]).fetchall()
        return len(retried), _send(database.settings, [number for (number,) in rows])

    return await database.threaded(queued)


def _send(settings: Settings, numbers: list[int]) -> str:
    """Send tasks for crawls to the workers; return why they were not sent ("": they were sent)."""
    try:
        with needed("celery"):
            from refnet.tasks import send_crawl, use
        use(settings)
        for number in numbers:
            send_crawl(number)
    except RefnetError as error:
        return f"{error.message}."
    return ""
