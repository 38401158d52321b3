"""`/api/papers`: the list, the full-text search, and one paper with its links.

PostgreSQL formats the JSON, so a page of 200 papers costs this process no more than one paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refnet.network import STUB
from refnet.network.layout import AMONG, Links, links
from refnet.web.answers import json_text, read_text
from refnet.web.database import NetworkDatabase

router = APIRouter(prefix="/api/papers", tags=["papers"])
#: The most papers on a page; the most matches of a search that are read: papers with many citations, others.
MOST, MATCHES, OTHERS = 200, 1000, 300
#: The highest id: PostgreSQL's bigint.
HIGHEST = 2**63 - 1
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(read_text)]

#: The expression of papers_search_idx.
_DOCUMENT = "to_tsvector('pg_catalog.english', coalesce(p.title, '') || ' ' || coalesce(p.abstract, ''))"
# A subquery, so that the planner does not know how common the words are: it then always takes the index and not a
# scan that parses each abstract. Words without operators: to find a phrase, PostgreSQL parses every match again.
_WANTED = "(SELECT plainto_tsquery('pg_catalog.english', %(q)s))"
_ORDER = "coalesce(p.citation_count, -1) DESC, p.id DESC"
_VENUE = "left(lower({}), 200)"  # the expression of papers_venue_idx
_FILTERS = {
    "q": f"{_DOCUMENT} @@ {_WANTED}",
    "year": "p.year = %(year)s",
    "venue": f"{_VENUE.format('p.venue')} = {_VENUE.format('%(venue)s')}",
    "author": """p.id IN (SELECT w.paper_id FROM paper_authors w JOIN authors a ON a.id = w.author_id
        WHERE lower(a.name) = lower(%(author)s))""",
    "provenance": "p.provenance = %(provenance)s",
    "has_summary": "EXISTS (SELECT FROM summaries s WHERE s.paper_id = p.id) = %(has_summary)s",
    "topic": "EXISTS (SELECT FROM unnest(p.fields_of_study) topic WHERE lower(topic) = lower(%(topic)s))",
    "author_id": "p.id IN (SELECT paper_id FROM paper_authors WHERE author_id = %(author_id)s)",
}
#: The condition of papers_search_top_idx: its papers come first, so common words need no others.
_TOP = "p.citation_count >= 50"
_AFTER = "(coalesce(p.citation_count, -1), p.id) < (%(citations)s, %(id)s)"
_NAMES = """(SELECT coalesce(json_agg(a.name ORDER BY w.position), '[]') FROM (
    SELECT author_id, position FROM paper_authors WHERE paper_id = p.id ORDER BY position LIMIT 20
    ) w JOIN authors a ON a.id = w.author_id)"""
_LISTED = f"""json_build_object('id', p.id, 'title', p.title, 'year', p.year, 'venue', p.venue, 'authors', {_NAMES},
    'citation_count', p.citation_count, 'reference_count', p.reference_count, 'provenance', p.provenance,
    'has_details', p.details_fetched_at IS NOT NULL, 'rank', (SELECT position FROM ranks WHERE paper_id = p.id),
    'has_summary', EXISTS (SELECT FROM summaries WHERE paper_id = p.id))"""
_ROW = f"coalesce(p.citation_count, -1), p.id, ({_LISTED})::text"


class PapersQuery(BaseModel):
    """The parameters of the list."""

    model_config = ConfigDict(extra="forbid")
    q: Annotated[Text | None, Field(description="Words that title and abstract contain together.")] = None
    year: Annotated[int | None, Field(ge=1000, le=2999)] = None
    venue: Annotated[Text | None, Field(description="Its name, in upper or lower case.")] = None
    author: Annotated[Text | None, Field(description="The complete name, in upper or lower case.")] = None
    provenance: Annotated[str | None, Field(pattern="^[a-z][a-z0-9_]{0,99}$")] = None
    has_summary: bool | None = None
    topic: Annotated[Text | None, Field(description="A field of study, in upper or lower case.")] = None
    author_id: Annotated[int | None, Field(ge=1, le=HIGHEST, description="The `id` of an author.")] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50
    #: Citations (-1: unknown) and id of the last row of the page before.
    cursor: Annotated[
        str | None, Field(pattern=r"^(-1|[0-9]{1,10})\.[0-9]{1,18}$", description="`next` of the last page.")
    ] = None

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that are set."""
        return self.model_dump(exclude_none=True, exclude={"limit", "cursor"})


@router.get("")
async def papers(request: Request, asked: Annotated[PapersQuery, Query()]) -> Response:
    """List papers, the most cited first. `next` is the cursor of the next page, null on the last one.

    A search reads up to 1,000 matches with 50 or more citations; if these do not fill the page, up to 300 others.
    `complete` is false if more papers match.
    """
    found = await listed(request.app.state.database, asked)
    following = f'"{found.next}"' if found.next else "null"
    complete = "true" if found.complete else "false"
    papers = ",\n".join(found.papers)
    return json_text(f'{{"papers": [{papers}], "next": {following}, "complete": {complete}}}\n')


@dataclass(frozen=True)
class PapersPage:
    """One page of the list."""

    #: The papers, each as JSON.
    papers: list[str]
    #: The cursor of the next page; None on the last page.
    next: str | None
    #: False: more papers match than a search reads.
    complete: bool


async def listed(database: NetworkDatabase, asked: PapersQuery) -> PapersPage:
    """Return a page of the list; RefnetError if the database does not answer."""
    filters = asked.filters
    values = filters | {"limit": asked.limit + 1}
    if asked.cursor:
        citations, _, last = asked.cursor.partition(".")
        values |= {"citations": int(citations), "id": int(last)}
    read = database.recent_rows if "q" in filters else database.rows
    rows = await read(_list(filters, after=asked.cursor is not None), values)
    page = rows[: asked.limit]
    following = f"{page[-1][0]}.{page[-1][1]}" if len(rows) > asked.limit else None
    return PapersPage([row[2] for row in page], following, not (page and page[0][3]))


def _list(filters: dict[str, Any], *, after: bool) -> str:
    """Return the query for a page: rows of citations, id, JSON, and whether more papers match than were read."""
    where = " AND ".join([*(_FILTERS[name] for name in filters), *([_AFTER] if after else ())])
    if "q" not in filters:
        return f"SELECT {_ROW}, false FROM papers p {'WHERE ' * bool(where)}{where} ORDER BY {_ORDER} LIMIT %(limit)s"
    return f"""WITH top AS MATERIALIZED (
        SELECT p.id, p.citation_count FROM papers p WHERE {where} AND {_TOP} LIMIT {MATCHES + 1}
    ), others AS MATERIALIZED (
        SELECT p.id, p.citation_count FROM papers p WHERE {where} AND ({_TOP}) IS NOT TRUE
            AND (SELECT count(*) FROM top) < %(limit)s LIMIT {OTHERS + 1}
    ), page AS (
        SELECT p.id FROM (SELECT * FROM top UNION ALL SELECT * FROM others) p ORDER BY {_ORDER} LIMIT %(limit)s
    ) SELECT {_ROW}, (SELECT count(*) > {MATCHES} FROM top) OR (SELECT count(*) > {OTHERS} FROM others)
    FROM papers p JOIN page USING (id) ORDER BY {_ORDER}"""


def _links(own: str, other: str) -> str:
    """Return SQL for the JSON of a paper's links (column `own`): their number, and the most cited of 1,000."""
    return f"""json_build_object('count', (SELECT count(*) FROM citations WHERE {own} = p.id), 'papers', (
        SELECT coalesce(json_agg(row.one), '[]') FROM (
            SELECT json_build_object('id', o.id, 'title', o.title, 'year', o.year, 'citation_count', o.citation_count,
                'is_influential', c.is_influential, 'intents', c.intents, 'provenance', c.provenance,
                'contexts', jsonb_path_query_array(c.contexts, 'lax $[0 to 2].context')) AS one
            FROM (SELECT * FROM citations WHERE {own} = p.id ORDER BY {other} DESC LIMIT 1000) c
            JOIN papers o ON o.id = c.{other}
            ORDER BY coalesce(o.citation_count, -1) DESC, o.id DESC LIMIT %(links)s) row))"""


def _many(value: str, rows: str, joined: str = "") -> str:
    return f"(SELECT coalesce(json_agg({value}), '[]') FROM ({rows}) one {joined})"


_RELATED = _many(
    "json_build_object('id', one.other_id, 'title', o.title, 'year', o.year, 'kind', one.kind, 'strength', one.strength)"
    " ORDER BY one.kind, one.strength DESC, one.other_id",
    "SELECT * FROM related_papers WHERE paper_id = p.id ORDER BY kind, strength DESC, other_id LIMIT 100",
    "JOIN papers o ON o.id = one.other_id",
)
_COLUMNS = """id, title, abstract, year, published_on, venue, publication_venue, journal, publication_types,
    fields_of_study, open_access_url, reference_count, citation_count, influential_citation_count, provenance,
    field_provenance, details_fetched_at, references_fetched_at, citations_fetched_at, created_at, updated_at"""
_PARTS = {
    "authors": _many(
        "json_build_object('id', one.author_id, 'name', a.name, 'orcid', a.orcid) ORDER BY one.position",
        "SELECT * FROM paper_authors WHERE paper_id = p.id ORDER BY position LIMIT 1000",
        "JOIN authors a ON a.id = one.author_id",
    ),
    "external_ids": _many(
        "json_build_object('scheme', one.scheme, 'value', one.value)",
        "SELECT * FROM external_ids WHERE paper_id = p.id ORDER BY scheme, value LIMIT 100",
    ),
    "summaries": _many(
        """json_build_object('kind', one.kind, 'language', one.language, 'model', one.model, 'content', one.content,
            'prompt_version', one.prompt_version, 'keywords', one.keywords, 'created_at', one.created_at)""",
        "SELECT * FROM summaries WHERE paper_id = p.id ORDER BY created_at DESC, id DESC LIMIT 20",
    ),
    "rank": """(SELECT json_build_object('position', r.position, 'pagerank', r.pagerank, 'cited_by', r.cited_by,
        'cites', r.cites, 'computed_at', r.computed_at) FROM ranks r WHERE r.paper_id = p.id)""",
    "citation_counts": _many(
        "json_build_object('day', one.day, 'citation_count', one.citation_count) ORDER BY one.day",
        "SELECT * FROM citation_counts WHERE paper_id = p.id ORDER BY day DESC LIMIT 1000",
    ),
    "references": _links("citing_id", "cited_id"),
    "citations": _links("cited_id", "citing_id"),
    "related": _RELATED,
}
_ONE = f"""SELECT (to_jsonb(row) || jsonb_build_object({", ".join(f"'{name}', {part}" for name, part in _PARTS.items())}))::text
    FROM papers p CROSS JOIN LATERAL (SELECT {", ".join(f"p.{name.strip()}" for name in _COLUMNS.split(","))}) row
    WHERE p.id = %(id)s"""
#: For tables with more rows, the estimate of the last ANALYZE is used instead of a count.
COUNTED = 200_000


def _count(table: str, index: str = "", where: str = "true") -> str:
    """Return SQL for the number of rows of `table`, or of its partial `index` with the condition `where`."""
    estimate = f"(SELECT reltuples FROM pg_class WHERE oid = '{index or table}'::regclass)"
    large = f"(SELECT reltuples > {COUNTED} FROM pg_class WHERE oid = '{table}'::regclass)"
    return (
        f"CASE WHEN {large} THEN {estimate}::bigint ELSE (SELECT count(*) FROM {table} p WHERE {where}) END"
    )


_FIGURES = f"""SELECT {_count("papers")}, {_count("papers", "papers_details_wanted_idx", STUB)}, {_count("citations")},
    {_count("summaries")}, (SELECT computed_at FROM ranks ORDER BY position LIMIT 1),
    (SELECT max(reltuples) > {COUNTED} FROM pg_class
        WHERE oid IN ('papers'::regclass, 'citations'::regclass, 'summaries'::regclass))"""


@router.get("/{id}")
async def paper(
    request: Request,
    number: Annotated[int, Path(alias="id", ge=1, le=HIGHEST)],
    links: Annotated[
        int, Query(ge=0, le=MOST, description="The most references, and the most citing papers.")
    ] = 50,
) -> Response:
    """Show one paper with its references, citing and related papers, summaries, rank and external ids.

    Of references and of citing papers the most cited come first, of the newest 1,000; `count` counts all that are stored.
    """
    return json_text(await one(request.app.state.database, number, links) + "\n")


async def one(database: NetworkDatabase, number: int, links: int) -> str:
    """Return a paper as JSON, with at most `links` references and citing papers; HTTPException (404)."""
    rows = await database.rows(_ONE, {"id": number, "links": links})
    if not rows:
        raise HTTPException(404, f"there is no paper {number}")
    return str(rows[0][0])


async def among(database: NetworkDatabase, ids: list[int]) -> Links:
    """Return what links the papers `ids`."""
    rows = await database.rows(AMONG, {"ids": ids})
    return links((one, other, cites) for one, other, cites in rows)


@dataclass(frozen=True)
class Figures:
    """The size of the network, at most `database.RECENT` seconds old."""

    papers: int
    #: The papers known only as an end of a citation.
    stubs: int
    citations: int
    summaries: int
    #: When the ranks were computed; None: never.
    ranked_at: datetime | None
    #: Whether a number is PostgreSQL's estimate, because counting takes too long.
    estimated: bool


async def figures(database: NetworkDatabase) -> Figures:
    """Return the size of the network; RefnetError if the database does not answer."""
    (row,) = await database.recent_rows(_FIGURES, {})
    return Figures(*row)
