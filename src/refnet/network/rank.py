"""Computes and stores the PageRank and the closest papers of each paper of the network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core.errors import Exit, RefnetError
from refnet.core.extras import needed
from refnet.network import SESSION, STUB, server_errors
from refnet.network.closeness import Closest, Graph, Numbers, too_long
from refnet.network.writing import retried
from refnet.postgres.session import Target

with needed("network"):
    import numpy as np

#: The key of the session's advisory lock, "rank" in ASCII; a second run would compute the same.
_LOCK = 0x72616E6B
#: The message and the hint for errors of the server.
_FAILED = ("cannot be ranked", "The ranks are unchanged. Fix the cause and retry.")


@dataclass(frozen=True)
class Ranked:
    """The size of the ranked graph, the stored pairs, and the papers that did not count."""

    papers: int
    #: The number of papers with details or from a file; the others are stubs.
    with_details: int
    citations: int
    #: The number of stored pairs of close papers.
    co_citation: int = 0
    coupling: int = 0
    #: The number of papers with more than `closeness.MOST` references, which do not count for co-citation.
    too_many_references: int = 0
    #: The number of papers with more than `closeness.MOST` citations, which do not count for coupling.
    too_many_citations: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_COUNTS = f"""
SELECT (SELECT count(*) FROM papers), (SELECT count(*) FROM papers AS p WHERE NOT {STUB}),
       (SELECT count(*) FROM citations)
"""  # noqa: S608
_FOUND = """
CREATE TEMPORARY TABLE found_ranks (paper_id bigint, position integer, pagerank double precision,
    cited_by integer, cites integer) ON COMMIT DROP;
CREATE TEMPORARY TABLE found_related (paper_id bigint, kind text, other_id bigint, strength integer) ON COMMIT DROP
"""
#: Papers deleted since the graph was read get no rank; ranked ones are locked against deletion until the end.
#: Unchanged pairs are not written.
_WRITE = (
    "ANALYZE found_ranks, found_related",
    """INSERT INTO ranks (paper_id, position, pagerank, cited_by, cites)
    SELECT f.paper_id, f.position, f.pagerank, f.cited_by, f.cites
    FROM found_ranks AS f JOIN papers AS p ON p.id = f.paper_id ORDER BY p.id FOR KEY SHARE OF p
    ON CONFLICT (paper_id) DO UPDATE SET position = excluded.position, pagerank = excluded.pagerank,
        cited_by = excluded.cited_by, cites = excluded.cites, computed_at = now()""",
    "DELETE FROM ranks WHERE paper_id NOT IN (SELECT paper_id FROM found_ranks)",
    """DELETE FROM related_papers AS r WHERE NOT EXISTS (
        SELECT FROM found_related AS f WHERE f.paper_id = r.paper_id AND f.kind = r.kind
            AND f.other_id = r.other_id AND f.strength = r.strength)""",
    """INSERT INTO related_papers (paper_id, kind, other_id, strength)
    SELECT f.paper_id, f.kind, f.other_id, f.strength FROM found_related AS f
    WHERE f.paper_id IN (SELECT paper_id FROM ranks) AND f.other_id IN (SELECT paper_id FROM ranks)
        AND NOT EXISTS (SELECT FROM related_papers AS r
            WHERE r.paper_id = f.paper_id AND r.kind = f.kind AND r.other_id = f.other_id)
    ORDER BY f.paper_id, f.kind, f.other_id""",
)


def plan(target: Target) -> Ranked:
    """Return the size of the graph that a run would rank; RefnetError if the database has no network."""
    with server_errors(target, *_FAILED), target.connect(SESSION) as connection:
        return Ranked(*_counts(connection))


def compute(target: Target, progress: Progress = silent) -> Ranked:
    """Rank every paper of `target` and store the ranks and the closest papers, in one transaction.

    RefnetError (LOCKED) while another run does the same; RefnetError if the database cannot be used.
    """
    with server_errors(target, *_FAILED), target.connect(SESSION) as connection:
        _lock(connection, target)
        progress("read", 0, None)
        counts, papers, citing, cited = _read(connection)
        graph = Graph.of(np.searchsorted(papers, citing), np.searchsorted(papers, cited), len(papers))
        progress("PageRank", 0, None)
        ranks = "".join(_ranks(graph, papers))
        co_cited = _blocks(graph.co_cited(), "co_citation", papers, progress)
        coupled = _blocks(graph.coupled(), "coupling", papers, progress)
        progress("write", 0, None)
        _write(connection, {"found_ranks": [ranks], "found_related": [*co_cited, *coupled]})
    pairs = (sum(block.count("\n") for block in blocks) for blocks in (co_cited, coupled))
    return Ranked(*counts, next(pairs), next(pairs), too_long(graph.cites), too_long(graph.cited_by))


def _lock(connection: psycopg.Connection[Any], target: Target) -> None:
    if connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone() != (True,):
        raise RefnetError(
            f"the database {target.name} is being ranked by another run",
            "Wait until it ends: it stores the same ranks.",
            Exit.LOCKED,
            transient=True,
        )


def _counts(connection: psycopg.Connection[Any]) -> tuple[int, int, int]:
    [(papers, with_details, citations)] = connection.execute(_COUNTS).fetchall()
    connection.execute("SELECT FROM ranks, related_papers LIMIT 0")
    return papers, with_details, citations


def _read(connection: psycopg.Connection[Any]) -> tuple[tuple[int, int, int], Numbers, Numbers, Numbers]:
    """Read one snapshot: the counts, the sorted ids of papers, the ids of citing and of cited papers."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        counts = _counts(connection)
        papers = _numbers(connection, "SELECT id FROM papers ORDER BY id")
        ends = _numbers(connection, "SELECT citing_id, cited_id FROM citations ORDER BY citing_id, cited_id")
    return counts, papers, ends[0::2], ends[1::2]


def _numbers(connection: psycopg.Connection[Any], query: str) -> Numbers:
    """Return the integers of all rows of `query`, row by row, in one array."""
    text = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
        for block in copy:
            text.write(block)
    return np.fromstring(text.getvalue().decode("ascii"), dtype=np.int64, sep=" ")


def _ranks(graph: Graph, papers: Numbers) -> Iterator[str]:
    """Yield a line of COPY text for each paper: id, position, PageRank, citations and references."""
    pagerank, cited_by, cites = (
        graph.pageranks(),
        graph.cited_by.lengths.tolist(),
        graph.cites.lengths.tolist(),
    )
    order = sorted(range(graph.count), key=lambda one: (-pagerank[one], -cited_by[one], one))
    for position, one in enumerate(order, 1):
        yield f"{papers[one]}\t{position}\t{pagerank[one]}\t{cited_by[one]}\t{cites[one]}\n"


def _blocks(found: Iterator[Closest], kind: str, papers: Numbers, progress: Progress) -> list[str]:
    """Return COPY text with a line for each pair: paper, kind, other paper, strength."""
    blocks: list[str] = []
    for part in found:
        progress(Counted(kind.replace("_", "-"), "papers"), part.done, len(papers))
        columns = (papers[part.papers].tolist(), papers[part.others].tolist(), part.strengths.tolist())
        lines = (
            f"{one}\t{kind}\t{other}\t{strength}\n" for one, other, strength in zip(*columns, strict=True)
        )
        blocks.append("".join(lines))
    return blocks


def _write(connection: psycopg.Connection[Any], found: dict[str, list[str]]) -> None:
    """Replace the stored ranks and pairs by `found` (table → COPY text)."""

    def write(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(_FOUND)
        for table, blocks in found.items():
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for block in blocks:
                    copy.write(block)
        for statement in _WRITE:
            cursor.execute(statement)

    retried(connection, write)  # a merge of papers may lock rows in another order
