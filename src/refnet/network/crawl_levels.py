"""The levels of a crawl: the choice of the next level's papers when all jobs of a level have ended.

The choice depends only on stored citations, the providers' counts and ids, not on the order of work. So a crawl collects the
same graph after a kill, or with several workers.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import psycopg

from refnet.core.errors import Exit, RefnetError
from refnet.network.crawls import MOST_SEEDS, CrawlOrder, Direction
from refnet.network.jobs import NewJob, add

SEEDS, EDGES, DETAILS = "crawl_seeds", "crawl_edges", "crawl_details"
KINDS = (EDGES, DETAILS, SEEDS)
#: The papers whose details an update renews, at most: the most cited, in a hundred requests.
_RENEWED = 50_000
#: The most papers of a job for details: as many ids as Semantic Scholar takes in a request.
MOST_IDS = 500
_LOCK = 0x6372776C
_Cursor = psycopg.Cursor[tuple[Any, ...]]


class LevelStep(Enum):
    """The outcome of `advance`."""

    #: Jobs are queued or run.
    WAITING = "waiting"
    #: New jobs are queued.
    NEXT = "next"
    #: The crawl has ended.
    ENDED = "ended"


def watched(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the ids, for requests, of the seeds of all crawls that are no updates."""
    return [name for (name,) in connection.execute(_WATCHED, [MOST_SEEDS]) if name]


def begin(connection: psycopg.Connection[Any], order: CrawlOrder, *, update: bool = False) -> int:
    """Store a crawl with its first jobs and return its id, or the id of an unfinished crawl of the same order.

    update: it also renews the details of the papers that have some, and chooses only papers that it finds first.
    """
    seeds = sorted(order.seeds)
    values = (seeds, order.direction.value, order.depth, order.limit, update)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])  # two concurrent commands start one crawl
        if row := cursor.execute(_SAME, values).fetchone():
            return int(row[0])
        row = cursor.execute(_BEGIN, values).fetchone()
        assert row is not None  # noqa: S101  # of INSERT RETURNING
        crawl = int(row[0])
        add(
            cursor,
            (NewJob(SEEDS, crawl_id=crawl, payload={"seeds": part}) for part in _parts(seeds)),
        )
        if update:
            names = [name for (name,) in cursor.execute(_DETAILED, [seeds, _RENEWED]).fetchall()]
            add(cursor, (NewJob(DETAILS, crawl_id=crawl, payload={"ids": part}) for part in _parts(names)))
    return crawl


def cancel(connection: psycopg.Connection[Any], crawl: int) -> None:
    """Cancel an unfinished crawl and its queued jobs; RefnetError (USAGE) if it has ended, or does not exist."""
    with connection.transaction(), connection.cursor() as cursor:
        if (state := _state(cursor, crawl)) != "running":
            raise RefnetError(
                f"crawl {crawl} is not at work: {state}", "Nothing is left to stop.", Exit.USAGE
            )
        cursor.execute("UPDATE crawls SET state = 'cancelled', finished_at = now() WHERE id = %s", [crawl])
        cursor.execute(_CANCEL_JOBS, [crawl])


def uncancel(connection: psycopg.Connection[Any], crawl: int) -> None:
    """Make a cancelled crawl and its jobs unfinished again; RefnetError (USAGE) if it does not exist."""
    with connection.transaction(), connection.cursor() as cursor:
        if _state(cursor, crawl) == "cancelled":
            cursor.execute("UPDATE crawls SET state = 'running', finished_at = NULL WHERE id = %s", [crawl])
            cursor.execute(_UNCANCEL_JOBS, [crawl])


def _state(cursor: _Cursor, crawl: int) -> str:
    row = cursor.execute("SELECT state FROM crawls WHERE id = %s FOR UPDATE", [crawl]).fetchone()
    if row is None:
        raise RefnetError(
            f"there is no crawl {crawl}", "`refnet crawl` continues those that are unfinished.", Exit.USAGE
        )
    return str(row[0])


def add_seeds(cursor: _Cursor, crawl: int, papers: list[int]) -> None:
    """Add `papers`, with stored details, as the seeds of `crawl`, and jobs for their citations."""
    row = cursor.execute("SELECT direction, depth FROM crawls WHERE id = %s", [crawl]).fetchone()
    chosen = cursor.execute(_CHOOSE_SEEDS, {"crawl": crawl, "papers": papers}).fetchall()
    if row and row[1] > 0:
        _ask_edges(cursor, crawl, Direction(row[0]), [(paper, name) for paper, name in chosen])


def advance(connection: psycopg.Connection[Any], crawl: int) -> LevelStep:
    """Choose the next level if all jobs have ended; one transaction, one worker at a time."""
    with connection.transaction(), connection.cursor() as cursor:
        if cursor.execute(_LOCKED, [crawl]).fetchone() is None:
            return LevelStep.ENDED
        row = cursor.execute(
            _LEVEL, [crawl]
        ).fetchone()  # a separate statement: it sees commits that the lock waited for
        assert row is not None  # noqa: S101  # it is locked
        level, depth, direction, limit, is_open = row
        if is_open:
            return LevelStep.WAITING
        chosen = _choose(cursor, crawl, Direction(direction), limit) if level < depth else []
        added = 0
        if chosen:
            level += 1
            cursor.execute("UPDATE crawls SET level = %s WHERE id = %s", [level, crawl])
            cursor.execute(_ADD_PAPERS, [crawl, level, [paper for paper, _ in chosen]])
            if level < depth:
                added += _ask_edges(cursor, crawl, Direction(direction), chosen)
        added += _ask_details(cursor, crawl, is_last=not added)
        if added:
            return LevelStep.NEXT
        if not chosen:
            cursor.execute(
                "UPDATE crawls SET state = 'succeeded', finished_at = now() WHERE id = %s", [crawl]
            )
            return LevelStep.ENDED
    return LevelStep.NEXT


def _choose(cursor: _Cursor, crawl: int, direction: Direction, limit: int) -> list[tuple[int, str]]:
    """Return the papers of the next level: row id, and the external id for requests."""
    values = {
        "crawl": crawl,
        "cited": "references" in direction.each,
        "citing": "citations" in direction.each,
    }
    return cursor.execute(_CHOOSE, {**values, "limit": limit}).fetchall()


def _ask_edges(cursor: _Cursor, crawl: int, direction: Direction, papers: list[tuple[int, str]]) -> int:
    jobs = (
        NewJob(EDGES, paper, crawl, {"id": name, "direction": one}, f"crawl {crawl} {one} of paper {paper}")
        for paper, name in papers
        for one in direction.each
    )
    return add(cursor, jobs)


def _ask_details(cursor: _Cursor, crawl: int, *, is_last: bool) -> int:
    """Add jobs for papers without requested details: full batches, and the rest with the last level."""
    names = [
        name for (name,) in cursor.execute(_WITHOUT_DETAILS, {"crawl": crawl, "kind": DETAILS}).fetchall()
    ]
    if not is_last:
        names = names[: len(names) // MOST_IDS * MOST_IDS]
    return add(cursor, (NewJob(DETAILS, crawl_id=crawl, payload={"ids": part}) for part in _parts(names)))


def _parts(names: list[str]) -> list[list[str]]:
    return [names[at : at + MOST_IDS] for at in range(0, len(names), MOST_IDS)]


_SAME = """
SELECT id FROM crawls
WHERE state = 'running' AND (seeds, direction, depth, paper_limit, is_update) = (%s, %s, %s, %s, %s)
ORDER BY id LIMIT 1
"""
_BEGIN = """
INSERT INTO crawls (seeds, direction, depth, paper_limit, is_update) VALUES (%s, %s, %s, %s, %s)
RETURNING id
"""
_CANCEL_JOBS = """
UPDATE jobs SET state = 'cancelled', finished_at = clock_timestamp() WHERE crawl_id = %s AND state = 'queued'
"""
_UNCANCEL_JOBS = """
UPDATE jobs SET state = 'queued', finished_at = NULL, run_after = clock_timestamp()
WHERE crawl_id = %s AND state = 'cancelled'
"""
_LOCKED = "SELECT id FROM crawls WHERE id = %s AND state = 'running' FOR UPDATE"
_LEVEL = """
SELECT level, depth, direction, paper_limit, EXISTS (
    SELECT FROM jobs WHERE jobs.crawl_id = crawls.id AND jobs.state IN ('queued', 'running')
)
FROM crawls WHERE id = %s
"""

#: SQL: a paper's id for requests, in a form of Semantic Scholar; OpenAlex's id if there is no other.
_NAME = """(
    SELECT CASE scheme
        WHEN 'semantic_scholar' THEN value
        WHEN 'corpus_id' THEN 'CorpusId:' || value
        WHEN 'pubmed' THEN 'PMID:' || value
        WHEN 'pmc' THEN 'PMCID:' || value
        WHEN 'openalex' THEN 'openalex:' || value
        ELSE upper(scheme) || ':' || value
    END
    FROM external_ids
    CROSS JOIN LATERAL array_position(
        '{{semantic_scholar,corpus_id,doi,arxiv,mag,acl,pubmed,pmc,openalex}}'::text[], scheme
    ) AS place
    WHERE external_ids.paper_id = {paper} AND place IS NOT NULL  -- by the index on paper_id: not by scheme
    ORDER BY place, value COLLATE "C"
    LIMIT 1
)"""

_CHOOSE_SEEDS = f"""
WITH added AS (
    INSERT INTO crawl_papers (crawl_id, paper_id, level)
    SELECT DISTINCT %(crawl)s, paper, 0 FROM unnest(%(papers)s::bigint[]) AS paper
    ON CONFLICT DO NOTHING RETURNING paper_id
)
SELECT paper_id, {_NAME.format(paper="added.paper_id")} FROM added
"""  # noqa: S608

#: An influential citation counts twice; among equals the most cited come first, as the provider counts.
_CHOOSE = f"""
WITH linked AS (
    SELECT cited_id AS paper_id, is_influential FROM citations JOIN crawl_papers ON crawl_papers.paper_id = citing_id
    WHERE crawl_id = %(crawl)s AND %(cited)s
    UNION ALL
    SELECT citing_id, is_influential FROM citations JOIN crawl_papers ON crawl_papers.paper_id = cited_id
    WHERE crawl_id = %(crawl)s AND %(citing)s
), counted AS MATERIALIZED (
    SELECT paper_id, count(*) + count(*) FILTER (WHERE is_influential) AS links FROM linked
    WHERE NOT EXISTS (
        SELECT FROM crawl_papers AS mine WHERE mine.crawl_id = %(crawl)s AND mine.paper_id = linked.paper_id
    )
    GROUP BY paper_id
), named AS (
    SELECT paper_id, links, {_NAME.format(paper="counted.paper_id")} AS name FROM counted
)
SELECT paper_id, name FROM named JOIN papers ON papers.id = paper_id JOIN crawls ON crawls.id = %(crawl)s
WHERE name IS NOT NULL AND (NOT is_update OR papers.created_at >= crawls.created_at)
ORDER BY links DESC, papers.citation_count DESC NULLS LAST, name COLLATE "C"
LIMIT greatest(%(limit)s - (SELECT count(*) FROM crawl_papers WHERE crawl_id = %(crawl)s), 0)
"""  # noqa: S608

_WATCHED = f"""
SELECT {_NAME.format(paper="mine.paper_id")} AS name FROM (
    SELECT paper_id, max(crawl_id) AS newest FROM crawl_papers JOIN crawls ON crawls.id = crawl_id
    WHERE crawl_papers.level = 0 AND NOT is_update GROUP BY paper_id ORDER BY newest DESC, paper_id LIMIT %s
) AS mine
"""  # noqa: S608

_DETAILED = f"""
SELECT name FROM (
    SELECT {_NAME.format(paper="papers.id")} AS name, citation_count FROM papers WHERE details_fetched_at IS NOT NULL
) AS known
WHERE name IS NOT NULL AND name <> ALL (%s)
ORDER BY citation_count DESC NULLS LAST, name COLLATE "C" LIMIT %s
"""  # noqa: S608

_ADD_PAPERS = """
INSERT INTO crawl_papers (crawl_id, paper_id, level) SELECT %s, paper, %s FROM unnest(%s::bigint[]) AS paper
"""

_WITHOUT_DETAILS = f"""
WITH asked AS MATERIALIZED (
    SELECT jsonb_array_elements_text(payload -> 'ids') AS name FROM jobs WHERE crawl_id = %(crawl)s AND kind = %(kind)s
), named AS (
    SELECT crawl_papers.level, {_NAME.format(paper="papers.id")} AS name
    FROM crawl_papers JOIN papers ON papers.id = paper_id JOIN crawls ON crawls.id = crawl_id
    WHERE crawl_id = %(crawl)s AND crawl_papers.level > 0
      AND (details_fetched_at IS NULL OR details_fetched_at < crawls.created_at)
)
SELECT name FROM named WHERE name IS NOT NULL AND name NOT IN (SELECT name FROM asked)
ORDER BY level, name COLLATE "C"
"""  # noqa: S608
