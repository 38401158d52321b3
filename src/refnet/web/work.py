"""`/api/jobs` and `/api/crawls`: jobs and crawls, and the only path of the API that changes something.

A crawl is done by a Celery worker if one lives, else by a process like those of backups (`children.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from refnet.core.errors import RefnetError
from refnet.core.extras import needed
from refnet.network import SESSION
from refnet.network.crawls import DEEPEST, CrawlOrder, Direction, order
from refnet.network.jobs import list_jobs, retry_jobs
from refnet.postgres.session import Target
from refnet.scheduling import places
from refnet.settings import Settings
from refnet.web.answers import SECONDS, json_of, json_text, threaded, within
from refnet.web.children import BusyError, Child, Children
from refnet.web.database import NetworkDatabase
from refnet.web.papers import HIGHEST, MOST
from refnet.web.schemas import CrawlAnswer, CrawlsAnswer, JobsAnswer, StartedCrawl

router = APIRouter(prefix="/api")
#: The most seeds of one request.
SEEDS = 1000
#: The command, the kind of its processes, and the queue of its tasks; the most processes that crawl at once.
CRAWL, AT_ONCE = "crawl", 4
#: What to do about a crawl that nobody works on.
WITHOUT = "`refnet crawl` works on it without a worker."
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


@router.get("/jobs", tags=["work"], response_model=JobsAnswer)
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


@router.get("/crawls", tags=["work"], response_model=CrawlsAnswer)
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


@router.get("/crawls/{id}", tags=["work"], response_model=CrawlAnswer)
async def crawl(request: Request, number: Annotated[int, Path(alias="id", ge=1, le=HIGHEST)]) -> Response:
    """Show one crawl with all seeds."""
    rows = await request.app.state.database.rows(_ONE, {"id": number, "limit": 1})
    if not rows:
        raise HTTPException(404, f"there is no crawl {number}")
    return json_text(f"{rows[0][1]}\n")


@router.post("/crawls", tags=["work"], status_code=202, response_model=StartedCrawl)
async def start_crawl(request: Request, wanted: NewCrawl) -> Response:
    """Store a crawl and start it, or continue an unfinished crawl of the same order.

    `by` says who works on it: a Celery worker, or a process of this server. If neither does, it is null, `sent` is
    false, and `hint` says why; `refnet crawl` works on it.
    """
    asked, begun = await start(request, wanted)
    hint = {"hint": f"{begun.problem} {WITHOUT}"} if begun.problem else {}
    return json_of(
        {"id": begun.crawl, **asked.to_json(), "sent": bool(begun.by), "by": begun.by or None, **hint}, 202
    )


@dataclass(frozen=True)
class Begun:
    """Who works on a crawl."""

    crawl: int
    #: worker, process, or "": nobody, because of `problem`.
    by: str
    problem: str = ""


async def start(request: Request, wanted: NewCrawl) -> tuple[CrawlOrder, Begun]:
    """Store and start a crawl; NoServerError or NoTablesError without a database, or without its tables."""
    asked = order(wanted.seeds, wanted.direction, wanted.depth, wanted.limit)
    await request.app.state.database.rows("SELECT 1 FROM crawls LIMIT 1", {})
    number = await request.app.state.database.threaded(lambda target: _crawling().start(target, asked))
    return asked, await begun(request, number)


async def resume(request: Request, number: int) -> Begun:
    """Continue a crawl, also a cancelled one; RefnetError (USAGE) if it does not exist."""
    await request.app.state.database.threaded(lambda target: _crawling().resume(target, number))
    return await begun(request, number)


async def stop(request: Request, number: int) -> None:
    """Cancel an unfinished crawl, and interrupt its process; RefnetError (USAGE) if it is not unfinished."""
    await request.app.state.database.threaded(lambda target: _crawling().stop(target, number))
    children: Children = request.app.state.children

    def interrupt() -> None:
        for one in crawls_at_work(children):
            if one.exclusive == key(number):
                children.stop(one)

    await threaded(interrupt, request.app.state.readers)


async def retry(request: Request, ids: list[int]) -> tuple[int, str]:
    """Requeue failed jobs (empty: all) like `refnet jobs --retry`, and start their crawls.

    Return the number of jobs, and why a crawl was not started ("": each was).
    """

    def queued(target: Target) -> tuple[int, list[int]]:
        with target.connect(SESSION) as session:
            retried = retry_jobs(session, ids)
            rows = session.execute(_CRAWLS_OF, [retried]).fetchall()
        return len(retried), [number for (number,) in rows]

    count, crawls = await request.app.state.database.threaded(queued)
    problems = [(await begun(request, number)).problem for number in crawls]
    return count, next(filter(None, problems), "")


async def begun(request: Request, number: int) -> Begun:
    """Let a Celery worker do a stored crawl if one lives, else a process of this server."""
    state = request.app.state
    work = partial(_begin, state.settings, state.children, number)
    return await within(SECONDS, "the broker", threaded(work, state.readers))


def crawls_at_work(children: Children) -> list[Child]:
    """Return the processes of this dashboard that crawl."""
    return [one for one in children.all() if one.running and one.kind == CRAWL]


def _begin(settings: Settings, children: Children, number: int) -> Begun:
    try:
        if _has_worker(settings):
            from refnet.tasks import send_crawl

            send_crawl(number)
            return Begun(number, "worker")
        active = crawls_at_work(children)
        if len(active) >= AT_ONCE and all(one.exclusive != key(number) for one in active):
            return Begun(
                number, "", f"{AT_ONCE} crawls are running: continue this one when one of them has ended."
            )
        words = [CRAWL, f"--resume={number}"]
        children.start(words, kind=CRAWL, source="", title=f"Crawl {number}", exclusive=key(number))
    except BusyError:
        pass  # its process is at work
    except RefnetError as error:
        return Begun(number, "", f"{error.message}.")
    return Begun(number, "process")


def _has_worker(settings: Settings) -> bool:
    """Whether a Celery worker takes crawls; it has a second to answer. RefNet's own broker is not started for that."""
    if not find_spec("celery") or not (settings.broker_url or (settings.home / "broker").exists()):
        return False
    from kombu.exceptions import OperationalError
    from redis import RedisError

    from refnet.broker import server
    from refnet.tasks import queues_of_workers, use

    if not settings.broker_url and not server.status(settings.home).running:
        return False
    use(settings)
    url = settings.broker_url or server.url(settings.home)
    try:
        server.check(url)
        answers = queues_of_workers(url)
    except (RefnetError, OperationalError, RedisError, OSError):
        return False
    name = places.queue_name(CRAWL, settings.instance)
    listed = [one for answer in answers for queues in answer.values() for one in queues]
    # a worker that fails answers with an error, which is text
    return any(isinstance(one, dict) and one.get("name") == name for one in listed)


def key(number: int) -> str:
    return f"{CRAWL}:{number}"


def _crawling() -> ModuleType:
    with needed("network"):
        from refnet.network import crawl
    return crawl
