"""What an update found: papers that newly cite the seeds of crawls, which are the reader's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from refnet.core.formatting import plural

#: The most papers that are read, and that a message or the command names.
_MOST, _NAMED = 200, 10


@dataclass(frozen=True)
class NewPaper:
    """A paper that is new among those that cite the reader's."""

    paper_id: int
    title: str | None
    year: int | None
    citation_count: int | None
    #: The reader's papers that it cites: row ids and titles.
    cites: list[int]
    cites_titles: list[str]

    @property
    def line(self) -> str:
        year = f" ({self.year})" if self.year else ""
        several = f"{len(self.cites)} of yours: " if len(self.cites) > 1 else ""
        return f"{self.title or f'paper {self.paper_id}'}{year} cites {several}{'; '.join(self.cites_titles[:3])}"


@dataclass(frozen=True)
class News:
    """The new papers, first those that cite several of the reader's."""

    #: When the update before ended; None: there was none, so all that it found is the baseline.
    since: datetime | None
    papers: list[NewPaper]

    @property
    def title(self) -> str:
        """`New since Monday, 23 November 2026`."""
        local = self.since.astimezone() if self.since else None
        return f"New since {local:%A}, {local.day} {local:%B %Y}" if local else "The first update"

    def lines(self) -> Iterator[str]:
        if self.since is None:
            yield "the first update: the next ones name the papers that are new"
            return
        cite = "cites" if len(self.papers) == 1 else "cite"
        yield f"{self.title.lower()[:1]}{self.title[1:]}: {plural(len(self.papers), 'paper')} {cite} yours"
        yield from (f"  {one.line}" for one in self.papers[:_NAMED])
        if len(self.papers) > _NAMED:
            yield f"  and {len(self.papers) - _NAMED:,} more"

    def to_json(self) -> dict[str, Any]:
        since = self.since.isoformat() if self.since else None
        return {"since": since, "papers": [asdict(one) for one in self.papers]}


def news(connection: psycopg.Connection[Any], crawl: int | None = None) -> News | None:
    """Return what the update `crawl` found, None: the last one; None if there is no such update that has ended."""
    row = connection.execute(_SINCE, {"crawl": crawl}).fetchone()
    if row is None:
        return None
    if row[0] is None:
        return News(None, [])
    with connection.cursor(row_factory=class_row(NewPaper)) as cursor:
        return News(row[0], cursor.execute(_NEWS, {"since": row[0], "most": _MOST}).fetchall())


# Several updates of one day say the same: what is new since the last one of an earlier day, or since the first of all.
_SINCE = """
SELECT (SELECT coalesce(max(finished_at) FILTER (WHERE finished_at < date_trunc('day', mine.created_at)), min(finished_at))
        FROM crawls WHERE is_update AND state = 'succeeded' AND id < mine.id)
FROM crawls AS mine
WHERE is_update AND state = 'succeeded' AND (%(crawl)s::bigint IS NULL OR id = %(crawl)s)
ORDER BY id DESC LIMIT 1
"""

# A seed counts from its first update on: what cites it before is not new, but only collected late.
_NEWS = """
WITH seeds AS (
    SELECT paper_id, bool_or(NOT is_update) AS is_mine, min(finished_at) FILTER (WHERE is_update) <= %(since)s AS is_watched
    FROM crawl_papers JOIN crawls ON crawls.id = crawl_id
    WHERE crawl_papers.level = 0 GROUP BY paper_id
), fresh AS (
    SELECT DISTINCT citing_id FROM citations JOIN seeds ON paper_id = cited_id
    WHERE is_mine AND is_watched AND citations.created_at > %(since)s
)
SELECT papers.id AS paper_id, papers.title, papers.year, papers.citation_count,
    array_agg(cited_id ORDER BY cited_id) AS cites,
    array_agg(coalesce(own.title, 'paper ' || own.id) ORDER BY cited_id) AS cites_titles
FROM fresh JOIN citations USING (citing_id) JOIN seeds ON seeds.paper_id = cited_id AND is_mine
JOIN papers ON papers.id = citing_id JOIN papers AS own ON own.id = cited_id
GROUP BY papers.id
ORDER BY count(*) DESC, papers.citation_count DESC NULLS LAST, papers.id
LIMIT %(most)s
"""
