"""What to read first: papers by age, by their links to the reader's seeds, and by co-citation, each with its reasons.

PageRank prefers old papers, as they had the time to be cited. The score of a paper is

    ln(1 + citations per year) + 2 ln(1 + seeds linked to it) + ln(1 + influential links) + ln(1 + co-citations)

Citations are counted by the provider, else those that are stored. Seeds are those of all crawls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from refnet.core.formatting import plural

#: The most citations of seeds that are followed for co-citation.
_FOLLOWED = 20_000
#: The age of a paper without a year.
_UNKNOWN_AGE = 10


@dataclass(frozen=True)
class Reading:
    """A paper to read, with what speaks for it."""

    id: int
    #: The seeds that cite it, and those that it cites.
    cited_by: int
    cites: int
    #: The influential ones among these citations.
    influential: int
    #: The papers that cite it together with a seed.
    together: int
    per_year: float
    score: float

    @property
    def why(self) -> str:
        """The reasons, in words."""
        return "; ".join(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.cited_by:
            yield f"cited by {self.cited_by:,} of yours"
        if self.cites:
            yield f"cites {self.cites:,} of yours"
        if self.influential:
            yield f"influential for {self.influential:,}"
        if self.together:
            yield f"cited together with yours by {plural(self.together, 'paper')}"
        if self.per_year >= 1:
            yield f"{plural(round(self.per_year), 'citation')} a year"


#: SQL: the columns of Reading, of the papers of `crawl` without seeds; without a crawl, of all ranked papers.
#: mine: row ids of the seeds; null: of all crawls.
READINGS = f"""
WITH mine AS MATERIALIZED (
    SELECT unnest(coalesce(
        %(mine)s::bigint[], ARRAY(SELECT DISTINCT paper_id FROM crawl_papers WHERE level = 0))) AS id
),
linked AS (
    SELECT cited_id AS id, 1 AS cited_by, 0 AS cites, is_influential FROM mine JOIN citations ON citing_id = mine.id
    UNION ALL
    SELECT citing_id, 0, 1, is_influential FROM mine JOIN citations ON cited_id = mine.id
), counted AS (
    SELECT id, sum(cited_by) AS cited_by, sum(cites) AS cites, count(*) FILTER (WHERE is_influential) AS influential
    FROM linked GROUP BY id
), citing AS MATERIALIZED (
    SELECT DISTINCT citing_id FROM (
        SELECT citing_id FROM mine JOIN citations ON cited_id = mine.id ORDER BY citing_id DESC LIMIT {_FOLLOWED}) _
), together AS (
    SELECT cited_id AS id, count(*) AS together FROM citing JOIN citations USING (citing_id) GROUP BY cited_id
), candidates AS (
    SELECT paper_id AS id FROM crawl_papers WHERE crawl_id = %(crawl)s
    UNION ALL
    SELECT paper_id FROM ranks WHERE %(crawl)s::bigint IS NULL
), found AS (
    SELECT p.id, coalesce(cited_by, 0)::integer AS cited_by, coalesce(cites, 0)::integer AS cites,
        coalesce(influential, 0)::integer AS influential, coalesce(together, 0)::integer AS together,
        coalesce(p.citation_count, (SELECT r.cited_by FROM ranks r WHERE r.paper_id = p.id), 0)
            / greatest(coalesce(extract(year FROM now()) - p.year + 1, {_UNKNOWN_AGE}), 1)::double precision AS per_year
    FROM candidates JOIN papers p USING (id) LEFT JOIN counted USING (id) LEFT JOIN together USING (id)
    WHERE NOT EXISTS (SELECT FROM mine WHERE mine.id = p.id)
)
SELECT *, ln(1 + per_year) + 2 * ln(1 + cited_by + cites) + ln(1 + influential) + ln(1 + together) AS score
FROM found ORDER BY score DESC, id LIMIT %(most)s
"""  # noqa: S608  # constants alone


def to_read(
    connection: psycopg.Connection[Any], crawl: int | None, most: int, mine: Sequence[int] | None = None
) -> list[Reading]:
    """Return what to read first, best first; the arguments are those of READINGS."""
    cursor = connection.cursor(row_factory=class_row(Reading))
    values = {"mine": None if mine is None else [*mine], "crawl": crawl, "most": most}
    return cursor.execute(READINGS, values).fetchall()
