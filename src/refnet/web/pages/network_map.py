"""`/network/map`: the best papers of a crawl as a map, and what to read first. `/network/topics`, `/network/authors`: who
wrote what is stored, and what it is about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator, Field

from refnet.core.errors import RefnetError
from refnet.network.papers import normalized
from refnet.network.reading import READINGS, Reading
from refnet.web import papers, work
from refnet.web.answers import read_text
from refnet.web.database import NetworkDatabase
from refnet.web.pages.base import page, reading
from refnet.web.pages.network import without_database
from refnet.web.picture import MAPPED, TALL, WIDTH, MapPaper, paper_map

router = APIRouter(include_in_schema=False)
#: The most crawls to choose from, papers to read first, papers found on a map; the most seeds on a map.
_CRAWLS, _FIRST, _FOUND, _SEEDS = 50, 20, 100, 200
Words = Annotated[str, Field(max_length=500), AfterValidator(read_text)]
#: Like `crawl_id`, but the empty choice of the form is none.
_CRAWL = r"^([1-9][0-9]{0,17})?$"

_MAP = f"""
WITH best AS MATERIALIZED ({READINGS}), shown AS (
    SELECT id, 1 AS place FROM best UNION ALL
    (SELECT paper_id, 0 FROM crawl_papers WHERE crawl_id = %(crawl)s AND level = 0 ORDER BY paper_id LIMIT {_SEEDS})
)
SELECT p.id, p.title, p.year, p.citation_count,
    ARRAY(SELECT DISTINCT one FROM unnest(p.fields_of_study) AS one WHERE one <> ''), shown.place = 0,
    (SELECT a.name FROM paper_authors w JOIN authors a ON a.id = w.author_id WHERE w.paper_id = p.id AND w.position = 1),
    best.cited_by, best.cites, best.influential, best.together, best.per_year, best.score
FROM shown JOIN papers p USING (id) LEFT JOIN best USING (id) ORDER BY shown.place, best.score DESC, p.id LIMIT {MAPPED}
"""  # noqa: S608  # constants alone, here and below
_TOPICS = """
SELECT topic, count(*), sum(p.citation_count) FROM papers p CROSS JOIN LATERAL unnest(p.fields_of_study) AS topic
WHERE topic <> '' GROUP BY topic ORDER BY 2 DESC, 1 LIMIT 200
"""
_AUTHORS = """
SELECT a.id, a.name, a.orcid, found.papers, found.citations FROM (
    SELECT w.author_id, count(*) AS papers, sum(p.citation_count) AS citations
    FROM paper_authors w JOIN papers p ON p.id = w.paper_id GROUP BY w.author_id
    ORDER BY 2 DESC, 3 DESC NULLS LAST, 1 LIMIT 100
) found JOIN authors a ON a.id = found.author_id ORDER BY found.papers DESC, found.citations DESC NULLS LAST, a.id
"""
_AUTHOR = """
SELECT a.name, a.orcid, a.semantic_scholar_id,
    (SELECT count(*) FROM paper_authors WHERE author_id = a.id),
    ARRAY(SELECT jsonb_build_array(topic, count(*)) FROM paper_authors w JOIN papers p ON p.id = w.paper_id
        CROSS JOIN LATERAL unnest(p.fields_of_study) AS topic
        WHERE w.author_id = a.id AND topic <> '' GROUP BY topic ORDER BY count(*) DESC, topic LIMIT 20),
    ARRAY(SELECT jsonb_build_array(b.id, b.name, count(*)) FROM paper_authors w
        JOIN paper_authors o ON o.paper_id = w.paper_id AND o.author_id <> a.id JOIN authors b ON b.id = o.author_id
        WHERE w.author_id = a.id GROUP BY b.id ORDER BY count(*) DESC, b.id LIMIT 20)
FROM authors a WHERE a.id = %(id)s
"""


@router.get("/network/map")
async def show_map(
    request: Request,
    crawl: Annotated[str, Query(pattern=_CRAWL)] = "",
    q: Annotated[Words, Query()] = "",
    topic: Annotated[Words, Query()] = "",
) -> Response:
    """Show the map of a crawl, by default the newest with papers, with what matches the words and the topic."""
    database: NetworkDatabase = request.app.state.database
    try:
        crawls = [json.loads(one) for one in (await work.listed_crawls(database, _CRAWLS, papers.HIGHEST))[0]]
        chosen = int(crawl) if crawl else next((one["id"] for one in crawls if one["papers"]), None)
        rows = await database.recent_rows(_MAP, {"crawl": chosen, "mine": None, "most": MAPPED})
        links = await papers.among(database, [row[0] for row in rows])
    except RefnetError as error:
        return without_database(request, error)
    shown = tuple(
        MapPaper(number, title, year, count, tuple(about), is_seed, name)
        for number, title, year, count, about, is_seed, name, *_ in rows
    )
    drawn = await reading(request, "the map", lambda: paper_map(shown, links))
    first = [
        (one, Reading(one.id, *row[7:])) for one, row in zip(shown, rows, strict=True) if row[7] is not None
    ]
    found = [one for one in shown if _matches(one, q.casefold(), topic.casefold())] if q or topic else []
    return page(
        request, "network_map.html.j2", crawls=crawls, crawl=chosen, q=q, topic=topic, drawn=drawn, papers=shown,
        found={one.id for one in found}, listed=found[:_FOUND], first=first[:_FIRST], width=WIDTH, height=TALL,
    )  # fmt: skip


def _matches(paper: MapPaper, words: str, topic: str) -> bool:
    said = f"{paper.title or ''} {paper.author or ''}".casefold()
    return all(word in said for word in words.split()) and (
        not topic or topic in map(str.casefold, paper.topics)
    )


@router.get("/network/topics")
async def topics(request: Request) -> Response:
    """Show the topics with most papers, and the authors with most papers."""
    database: NetworkDatabase = request.app.state.database
    try:
        found = await database.recent_rows(_TOPICS, {})
        authors = await database.recent_rows(_AUTHORS, {})
    except RefnetError as error:
        return without_database(request, error)
    return page(request, "network_topics.html.j2", topics=found, authors=authors)


@router.get("/network/authors/{id}")
async def author(
    request: Request, number: Annotated[int, Path(alias="id", ge=1, le=papers.HIGHEST)]
) -> Response:
    """Show an author with ids, topics, co-authors and the most cited papers."""
    database: NetworkDatabase = request.app.state.database
    rows = await database.rows(_AUTHOR, {"id": number})
    if not rows:
        raise HTTPException(404, f"there is no author {number}")
    listed = await papers.listed(database, papers.PapersQuery(author_id=number, limit=papers.MOST))
    written = [json.loads(one) for one in listed.papers]
    names = ("name", "orcid", "semantic_scholar", "count", "topics", "others")
    found = dict(zip(names, rows[0], strict=True)) | {"id": number}
    return page(request, "network_author.html.j2", author=found, ids=_ids(found), papers=written)


def _ids(author: Mapping[str, Any]) -> Sequence[tuple[str, str, str | None]]:
    """Return the ids of an author: name of the site, value, link; a malformed id has no link."""
    orcid, scholar = author["orcid"], author["semantic_scholar"]
    found = []
    if orcid:
        found.append(
            ("ORCID", orcid, f"https://orcid.org/{orcid}" if normalized("orcid", orcid) == orcid else None)
        )
    if scholar:
        usable = scholar.isascii() and scholar.isdigit()
        site = "https://www.semanticscholar.org/author/"
        found.append(("Semantic Scholar", scholar, site + scholar if usable else None))
    return found
