"""The answers of the API, as /openapi.json describes them; the routes make the JSON themselves.

A later version may add keys.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

#: A time with its zone, as PostgreSQL writes it: a year after 9999 has five digits, and there is `infinity`.
Time = str
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Problem(BaseModel):
    """An error: what is wrong, and what to do."""

    error: str
    hint: str


class ListedPaper(BaseModel):
    """A paper of the list."""

    id: int
    title: str | None
    year: int | None
    venue: str | None
    #: The first 20.
    authors: list[str]
    citation_count: int | None = Field(description="As the provider counts.")
    reference_count: int | None
    provenance: str
    has_details: bool
    rank: int | None
    has_summary: bool


class PapersAnswer(BaseModel):
    """A page of papers."""

    papers: list[ListedPaper]
    next: str | None = Field(description="`cursor` of the next page.")
    complete: bool = Field(description="False: more papers match than a search reads.")


class LinkedPaper(BaseModel):
    """The other end of a citation."""

    id: int
    title: str | None
    year: int | None
    citation_count: int | None
    is_influential: bool | None
    intents: list[str]
    provenance: str
    #: The words with which one cites the other: texts, unless somebody else has written to the database.
    contexts: list[Any]


class CitationCount(BaseModel):
    """The citations of a paper at a day."""

    day: str
    citation_count: int


class Links(BaseModel):
    """References, or citing papers."""

    count: int = Field(description="All that are stored.")
    papers: list[LinkedPaper]


class RelatedPaper(BaseModel):
    """A close paper."""

    id: int
    title: str | None
    year: int | None
    kind: Literal["co_citation", "coupling"]
    strength: int


class Author(BaseModel):
    """An author of a paper."""

    id: int
    name: str
    orcid: str | None


class ExternalId(BaseModel):
    """What others call a paper."""

    scheme: str
    value: str


class Summary(BaseModel):
    """A short text about a paper."""

    kind: str
    language: str
    model: str
    content: str
    prompt_version: str
    keywords: list[str]
    created_at: Time


class Rank(BaseModel):
    """The place of a paper by PageRank."""

    position: int
    #: A number, or PostgreSQL's "NaN" or "Infinity".
    pagerank: float | str
    cited_by: int
    cites: int
    computed_at: Time


class Paper(BaseModel):
    """One paper."""

    id: int
    title: str | None
    abstract: str | None
    year: int | None
    published_on: str | None
    venue: str | None
    publication_venue: dict[str, Any] | None
    journal: dict[str, Any] | None
    publication_types: list[str]
    fields_of_study: list[str]
    open_access_url: str | None
    reference_count: int | None
    citation_count: int | None
    influential_citation_count: int | None
    provenance: str
    field_provenance: dict[str, Any]
    details_fetched_at: Time | None
    references_fetched_at: Time | None
    citations_fetched_at: Time | None
    created_at: Time
    updated_at: Time
    authors: list[Author]
    external_ids: list[ExternalId]
    summaries: list[Summary]
    rank: Rank | None
    references: Links
    citations: Links
    related: list[RelatedPaper]
    citation_counts: list[CitationCount]


class Job(BaseModel):
    """One unit of work."""

    id: int
    kind: str
    state: JobState
    paper_id: int | None
    crawl_id: int | None
    payload: dict[str, Any]
    attempts: int
    max_attempts: int
    error: str | None
    claimed_by: str | None
    created_at: Time
    run_after: Time
    finished_at: Time | None


class JobsAnswer(BaseModel):
    """A page of jobs."""

    jobs: list[Job]
    next: int | None = Field(description="`before` of the next page.")


class CrawlAnswer(BaseModel):
    """A crawl."""

    id: int
    seeds: list[str]
    seed_count: int
    direction: Literal["references", "citations", "both"]
    depth: int
    limit: int
    level: int
    state: Literal["running", "succeeded", "cancelled"]
    created_at: Time
    finished_at: Time | None
    papers: int
    jobs: dict[JobState, int] = Field(description="The number of jobs by state.")


class CrawlsAnswer(BaseModel):
    """A page of crawls."""

    crawls: list[CrawlAnswer]
    next: int | None = Field(description="`before` of the next page.")


class StartedCrawl(BaseModel):
    """A stored crawl, and who works on it."""

    id: int
    seeds: list[str]
    direction: Literal["references", "citations", "both"]
    depth: int
    limit: int
    sent: bool
    by: Literal["worker", "process"] | None
    hint: str = Field("", description="Why nobody works on it.")


class MarksAnswer(BaseModel):
    """The pin and the tags of an artifact."""

    pinned: bool
    until: str | None
    tags: list[str]
    unreadable: str = ""


class ListedArtifact(BaseModel):
    """An artifact, as `refnet list --json` prints it."""

    name: str
    source: str
    path: str
    database: str | None
    system_identifier: str | None
    identity: str | None
    number: int | None
    created: Time
    age_seconds: int
    size: int
    state: str
    compared: Any
    gaps: list[str]
    partial: bool
    shrunk: bool
    marks: MarksAnswer
    notes: list[str]
    evidence: list[dict[str, Any]] = Field(description="The last 20 lines.")


class BackupsAnswer(BaseModel):
    """The artifacts in the backup folder; with encryption.local, those in the encrypted store there."""

    backup_dir: str = ""
    store: str = ""
    artifacts: list[ListedArtifact]
    unlisted: list[dict[str, Any]] = Field(description="Files that are not in the catalog, and why.")
    gaps: list[Any] = []
    not_encrypted: list[str] = []
    left_out: int = Field(description="Older artifacts.")


class HealthCheck(BaseModel):
    """One check."""

    state: Literal["ok", "failed", "unused"]
    reason: str = ""


class HealthAnswer(BaseModel):
    """Whether everything works."""

    status: Literal["ok", "failed"]
    checks: dict[str, HealthCheck]


#: Status → when any route answers with it; 422, which FastAPI adds, is a 400 here.
_ERRORS = {
    "400": "A wrong parameter or body.",
    "401": "No token, or a wrong one.",
    "403": "Not allowed from here.",
    "404": "It does not exist.",
    "413": "The body is too long.",
    "503": "The database or another part does not answer.",
}


def described(app: FastAPI) -> dict[str, Any]:
    """Return the description of the API, with the errors of every route."""
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for methods in found["paths"].values():
        for one in methods.values():
            one["responses"].pop("422", None)
            for status, says in _ERRORS.items():
                one["responses"].setdefault(status, {"description": says, "content": content})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    app.openapi_schema = found
    return found
