"""`/api/papers`: the list, the full-text search, and one paper with its links.

PostgreSQL formats the JSON, so a page of 200 papers costs this process no more than one paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refnet.network import STUB
from refnet.network.layout import AMONG, Links, links
from refnet.network.search import LISTED, SearchText, Sort, page_query, words_of
from refnet.web.answers import json_text, read_text
from refnet.web.database import NetworkDatabase
from refnet.web.schemas import Paper, PapersAnswer

router = APIRouter(prefix="/api/papers", tags=["papers"])
#: The most papers on a page.
MOST = 200
#: The highest id: PostgreSQL's bigint.
HIGHEST = 2**63 - 1
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(read_text)]
_ROW = f"({LISTED})::text"


class PapersQuery(BaseModel):
    """The parameters of the list."""

    model_config = ConfigDict(extra="forbid")
    q: Annotated[
        Text | None,
        Field(
            description='Words (also their beginnings), "a phrase", a DOI, an arXiv id, or a URL with one.'
        ),
    ] = None
    year: Annotated[int | None, Field(ge=1000, le=2999)] = None
    venue: Annotated[Text | None, Field(description="Its name, in upper or lower case.")] = None
    author: Annotated[Text | None, Field(description="A part of a name: words or their beginnings.")] = None
    provenance: Annotated[str | None, Field(pattern="^[a-z][a-z0-9_]{0,99}$")] = None
    has_summary: bool | None = None
    topic: Annotated[Text | None, Field(description="A field of study, in upper or lower case.")] = None
    author_id: Annotated[int | None, Field(ge=1, le=HIGHEST, description="The `id` of an author.")] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50
    sort: Annotated[
        Literal["citations", "rank", "year"],
        Field(description="The most cited, the best ranked or the newest first."),
    ] = "citations"
    #: Key of the order and id of the last row of the page before.
    cursor: Annotated[
        str | None, Field(pattern=r"^-?[0-9]{1,10}\.[0-9]{1,18}$", description="`next` of the last page.")
    ] = None

    @property
    def filters(self) -> dict[str, Any]:
        """The filters that are set, with the values of their parameters."""
        found = self.model_dump(exclude_none=True, exclude={"limit", "cursor", "q", "author", "sort"})
        found |= {"author": words_of(self.author)} if self.author else {}
        return found | (SearchText.read(self.q).values() if self.q else {})


@router.get("", response_model=PapersAnswer)
async def papers(request: Request, asked: Annotated[PapersQuery, Query()]) -> Response:
    """List papers, the most cited first, or by `sort`. `next` is the cursor of the next page, null on the last one.

    A search reads up to 1,000 matches with 50 or more citations; if these do not fill the page, up to 300 others.
    Sorted by rank or year it reads 20,000, with a phrase it compares 1,000. `complete` is false if more papers match.
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
        key, _, last = asked.cursor.partition(".")
        values |= {"key": int(key), "id": int(last)}
    read = database.recent_rows if asked.q else database.rows
    rows = await read(page_query(filters, Sort(asked.sort), _ROW, after=asked.cursor is not None), values)
    page = rows[: asked.limit]
    following = f"{page[-1][0]}.{page[-1][1]}" if len(rows) > asked.limit else None
    return PapersPage([row[2] for row in page], following, not (page and page[0][3]))


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


@router.get("/{id}", response_model=Paper)
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
