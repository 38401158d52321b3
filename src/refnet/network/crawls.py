"""A crawl as its user sees it: the order with seeds and bounds, the state while it runs, the result.

A seed is an id in a form that Semantic Scholar accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import class_row

from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural
from refnet.network.papers import normalized

_FORMS = ("CorpusId", "DOI", "ARXIV", "MAG", "ACL", "PMID", "PMCID", "URL")
#: Scheme with ids that are recognized without a prefix → the prefix that the API expects.
_BARE = {"semantic_scholar": "", "doi": "DOI:", "arxiv": "ARXIV:"}
#: The page of a publisher with a DOI in its address; Semantic Scholar knows the URLs of a few sites only.
_OF_PUBLISHER = re.compile(
    r"^https?://[^/\s]+/doi/(?:[a-z]+/)?(10\.[0-9]{4,9}/[^\s?#]+?)(?:/(?:full|abstract|pdf|epdf))?/?(?:[?#]|$)"
)
_LONGEST = 1000
MOST_SEEDS = 10_000
DEEPEST = 10
#: The most seeds, failed jobs and incomplete lists of citations named in the text.
_NAMED = 10


class Direction(StrEnum):
    """The citations that a crawl follows."""

    REFERENCES = "references"
    CITATIONS = "citations"
    BOTH = "both"

    @property
    def each(self) -> tuple[str, ...]:
        return ("references", "citations") if self is Direction.BOTH else (self.value,)


@dataclass(frozen=True)
class CrawlOrder:
    """The seeds and the bounds of a crawl."""

    #: Ids in the form that the API accepts, each once.
    seeds: tuple[str, ...]
    direction: Direction = Direction.REFERENCES
    #: The greatest level (distance from the seeds).
    depth: int = 1
    #: The most papers to collect with details, seeds included.
    limit: int = 1000

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def order(seeds: list[str], direction: Direction, depth: int, limit: int) -> CrawlOrder:
    """Return the order of a crawl; RefnetError (USAGE) for an invalid id or too many seeds."""
    found = tuple(dict.fromkeys(map(seed_id, seeds)))
    if not 1 <= len(found) <= min(limit, MOST_SEEDS):
        raise RefnetError(
            f"{len(found):,} seeds are more than a crawl of at most {min(limit, MOST_SEEDS):,} papers",
            "Raise --limit, or name fewer ids.",
            Exit.USAGE,
        )
    return CrawlOrder(found, direction, depth, limit)


def seed_id(text: str) -> str:
    """Return a paper's id in the form that the API accepts; RefnetError (USAGE) if `text` is not an id."""
    text = text.strip()
    for scheme, prefix in _BARE.items():
        if value := normalized(scheme, text):
            return prefix + value
    if found := _OF_PUBLISHER.search(text):
        return seed_id(found[1])
    form, colon, value = text.partition(":")
    known = {one.lower(): one for one in _FORMS}.get(form.lower())
    if re.match(r"https?://", text, re.IGNORECASE):
        known, colon, value = "URL", ":", text
    usable = value.isprintable() and not re.search(r"\s", value) and 0 < len(value) <= _LONGEST
    if not (known and colon and usable):
        raise RefnetError(
            f"{text[:100]!r} is not an id of a paper",
            f"Write a DOI such as 10.1145/3292500, arXiv:2106.15928, or {', '.join(f'{one}:…' for one in _FORMS)}.",
            Exit.USAGE,
        )
    return f"{known}:{value}"


@dataclass(frozen=True)
class CrawlStanding:
    """The state of a running crawl."""

    level: int
    #: The number of chosen papers, seeds included.
    papers: int
    #: The number of new citations.
    edges: int
    #: The number of queued or running jobs.
    queue: int
    #: The number of finished jobs of all levels.
    done: int
    #: Requests of this process, and seconds since its start.
    requests: int
    seconds: float

    @property
    def rate(self) -> float:
        """This process's requests per second."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Seed:
    """The references of a seed."""

    paper_id: int
    title: str | None
    #: The number of references with an id, and of all references that the provider counts.
    resolved: int
    references: int


@dataclass(frozen=True)
class FailedJob:
    """A job that failed finally."""

    id: int
    kind: str
    error: str


@dataclass(frozen=True)
class CrawlResult:
    """The papers, citations and failures of a crawl."""

    crawl: int
    state: str
    #: references, citations or both.
    direction: str
    #: The number of papers by level, seeds first; and of stubs (known only as an end of a citation).
    papers: list[int]
    stubs: int
    #: The number of received citations, and of new ones among them.
    citations: int
    new_citations: int
    #: The number of requests of this run, and its duration in seconds.
    requests: int
    seconds: float
    seeds: list[Seed]
    #: Seeds that the provider does not know, as given.
    unknown: list[str]
    #: The number of chosen papers without details, which no provider knows.
    without_details: int
    failed: list[FailedJob]
    #: Titles of papers with incomplete citations or references: the provider lists at most 10,000.
    cut: list[str]
    notes: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing of what was wanted; of a crawl that somebody stopped no more is wanted."""
        return self.state != "running" and not self.unknown and not self.failed

    @property
    def problem(self) -> str:
        """The outcome of a crawl that is not complete; "" for one that is."""
        return "" if self.is_complete else f"crawl {self.crawl} {self._outcome()}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def _outcome(self) -> str:
        unknown = plural(len(self.unknown), "seed")
        if self.unknown and not self.papers:
            return f"collected nothing: {unknown} unknown"
        levels = f" (by level: {', '.join(f'{count:,}' for count in self.papers)})" if self.papers else ""
        return (
            f"{self.state}{f', with {unknown} unknown' if self.unknown else ''}:"
            f" {plural(sum(self.papers), 'paper')}{levels}, {plural(self.stubs, 'stub')},"
            f" {plural(self.citations, 'citation')} received, {self.new_citations:,} of them new"
        )

    def lines(self) -> Iterator[str]:
        """Yield the text of the result."""
        yield f"crawl {self.crawl} {self._outcome()}"
        yield f"  {plural(self.requests, 'request')} in {self.seconds:,.1f} s"
        for seed in self.seeds[:_NAMED] if self.direction != "citations" else ():
            yield f"  {seed.title or f'paper {seed.paper_id}'}: {seed.resolved:,} of {seed.references:,} references resolved"
        if len(self.seeds) > _NAMED and self.direction != "citations":
            yield f"  and {len(self.seeds) - _NAMED:,} more seeds: --json shows them"
        yield from (f"  unknown to the provider: {name}" for name in self.unknown)
        if self.without_details:
            yield f"  {plural(self.without_details, 'paper')} without details: no provider knows them"
        yield from (
            f"  only the first 10,000 citations, as the provider lists no more: {title}"
            for title in self.cut[:_NAMED]
        )
        yield from (f"  failed: job {one.id} ({one.kind}): {one.error}" for one in self.failed[:_NAMED])
        if self.failed:
            yield f"  {plural(len(self.failed), 'job')} failed: `refnet jobs --retry`, then `refnet crawl`"
        if self.state == "cancelled":
            yield f"  it was stopped: `refnet crawl --resume {self.crawl}` continues it"
        yield from (f"  {note}" for note in self.notes)


def standing(connection: psycopg.Connection[Any], crawl: int, requests: int, seconds: float) -> CrawlStanding:
    """Return the state of a crawl; takes some milliseconds for thousands of jobs."""
    row = connection.execute(_STANDING, {"crawl": crawl}).fetchone() or (0, 0, 0, 0, 0)
    level, papers, edges, queue, done = map(int, row)
    return CrawlStanding(level, papers, edges, queue, done, requests, seconds)


def result(
    connection: psycopg.Connection[Any], crawl: int, requests: int, seconds: float, notes: list[str]
) -> CrawlResult:
    """Return the result of `crawl` so far."""
    values = {"crawl": crawl}
    with connection.transaction():
        row: tuple[Any, ...] = connection.execute(_CRAWL, values).fetchone() or ("", "", [], [])
        papers = [count for (count,) in connection.execute(_LEVELS, values)]
        stubs, found, new, without = connection.execute(_SUMS, values).fetchone() or (0, 0, 0, 0)
        with connection.cursor(row_factory=class_row(Seed)) as cursor:
            seeds = cursor.execute(_SEEDS, values).fetchall()
        with connection.cursor(row_factory=class_row(FailedJob)) as cursor:
            failed = cursor.execute(_FAILED, values).fetchall()
    return CrawlResult(
        crawl=crawl,
        state=row[0],
        direction=row[1],
        papers=papers,
        stubs=stubs,
        citations=found,
        new_citations=new,
        requests=requests,
        seconds=round(seconds, 2),
        seeds=seeds,
        unknown=row[2],
        without_details=without,
        failed=failed,
        cut=row[3],
        notes=notes,
    )


_STANDING = """
SELECT (SELECT level FROM crawls WHERE id = %(crawl)s),
    (SELECT count(*) FROM crawl_papers WHERE crawl_id = %(crawl)s),
    coalesce(sum((payload ->> 'new')::bigint), 0)::bigint,
    count(*) FILTER (WHERE state IN ('queued', 'running')),
    count(*) FILTER (WHERE state = 'succeeded')
FROM jobs WHERE crawl_id = %(crawl)s
"""

_CRAWL = """
SELECT state, direction,
    ARRAY(
        SELECT jsonb_array_elements_text(payload -> 'unknown') FROM jobs
        WHERE crawl_id = %(crawl)s AND kind = 'crawl_seeds' AND payload ? 'unknown' ORDER BY 1
    ),
    ARRAY(
        SELECT coalesce(title, 'paper ' || papers.id) FROM jobs JOIN papers ON papers.id = paper_id
        WHERE crawl_id = %(crawl)s AND payload ? 'is_cut' ORDER BY 1
    )
FROM crawls WHERE id = %(crawl)s
"""

_LEVELS = """
SELECT count(*) FROM crawl_papers WHERE crawl_id = %(crawl)s GROUP BY level ORDER BY level
"""

_SUMS = """
SELECT
    (SELECT count(*) FROM papers WHERE details_fetched_at IS NULL AND id IN (
        SELECT cited_id FROM citations JOIN crawl_papers ON paper_id = citing_id WHERE crawl_id = %(crawl)s
        UNION SELECT citing_id FROM citations JOIN crawl_papers ON paper_id = cited_id WHERE crawl_id = %(crawl)s
    )),
    coalesce(sum((payload ->> 'found')::bigint), 0)::bigint,
    coalesce(sum((payload ->> 'new')::bigint), 0)::bigint,
    (SELECT count(*) FROM crawl_papers JOIN papers ON papers.id = paper_id
     WHERE crawl_id = %(crawl)s AND details_fetched_at IS NULL)
FROM jobs WHERE crawl_id = %(crawl)s
"""

_SEEDS = """
SELECT papers.id AS paper_id, title,
    count(*) FILTER (WHERE EXISTS (SELECT FROM external_ids WHERE paper_id = cited_id)) AS resolved,
    greatest(coalesce(reference_count, 0), count(cited_id)) AS "references"
FROM crawl_papers JOIN papers ON papers.id = crawl_papers.paper_id
LEFT JOIN citations ON citing_id = papers.id
WHERE crawl_id = %(crawl)s AND level = 0
GROUP BY papers.id
ORDER BY papers.id
"""

_FAILED = """
SELECT id, kind, coalesce(error, '') AS error FROM jobs WHERE crawl_id = %(crawl)s AND state = 'failed' ORDER BY id
"""
