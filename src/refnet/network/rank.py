"""Computes and stores the PageRank and the closest papers of each paper: by co-citation and bibliographic coupling.

`Graph` computes: values in, values out.
"""

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
from refnet.network.writing import retried
from refnet.postgres.session import Target

with needed("network"):
    import numpy as np
    import rustworkx

#: The key of the session's advisory lock, "rank" in ASCII; a second run would compute the same.
_LOCK = 0x72616E6B
#: The message and the hint for errors of the server.
_FAILED = ("cannot be ranked", "The ranks are unchanged. Fix the cause and retry.")
#: The most close papers kept of each paper; and if none shares more than one other paper with it.
CLOSEST, WEAKEST = 10, 3
#: Papers with more references do not count for co-citation, papers with more citations not for coupling: two entries
#: of a long list have little in common, and the number of pairs grows with the square of its length.
MOST = 200
#: The number of pairs counted at once; bounds the memory, at about 60 bytes per pair.
_BLOCK = 1 << 21
_DAMPING = 0.85
#: The tolerated sum of the errors of all ranks.
_PRECISION = 1e-10
_ROUNDS = 1000
#: Significant digits of a rank that do not depend on the order of additions.
_DIGITS = 8

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


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
    #: The number of papers with more than MOST references, which do not count for co-citation.
    too_many_references: int = 0
    #: The number of papers with more than MOST citations, which do not count for coupling.
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


@dataclass(frozen=True)
class Lists:
    """One list of papers per paper, concatenated."""

    #: The entries of all lists.
    others: Numbers
    #: The begin of each paper's list, and the end of the last list.
    begins: Numbers

    @classmethod
    def of(cls, papers: Numbers, others: Numbers, count: int) -> Lists:
        """Group the pairs (`papers`, `others`) into one list per paper; count: the number of papers."""
        order = np.argsort(papers, kind="stable")
        lengths = np.bincount(papers, minlength=count)
        return cls(others[order], np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))

    @property
    def lengths(self) -> Numbers:
        return np.diff(self.begins)


@dataclass(frozen=True)
class Graph:
    """Citations between papers that are numbered from 0."""

    #: The references of each paper.
    cites: Lists
    #: The papers that cite each paper.
    cited_by: Lists

    @classmethod
    def of(cls, citing: Numbers, cited: Numbers, count: int) -> Graph:
        """Return the graph of `count` papers; each pair (citing, cited) occurs once."""
        return cls(Lists.of(citing, cited, count), Lists.of(cited, citing, count))

    @property
    def count(self) -> int:
        """The number of papers."""
        return len(self.cites.begins) - 1

    def pageranks(self) -> list[float]:
        """Return the PageRank of each paper (their sum is 1), rounded to the digits that are reproducible."""
        graph = rustworkx.PyDiGraph(multigraph=False)
        graph.add_nodes_from(range(self.count))
        citing = np.repeat(np.arange(self.count), self.cites.lengths)
        for begin in range(0, len(citing), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            graph.extend_from_edge_list(
                [*zip(citing[part].tolist(), self.cites.others[part].tolist(), strict=True)]
            )
        tolerance = _PRECISION / max(self.count, 1)
        found = rustworkx.pagerank(graph, alpha=_DAMPING, tol=tolerance, max_iter=_ROUNDS)
        return [float(f"{found[number]:.{_DIGITS}g}") for number in range(self.count)]

    def co_cited(self) -> Iterator[Closest]:
        """Yield, for each paper, the papers most often cited together with it (co-citation)."""
        return _closest(self.cited_by, self.cites)

    def coupled(self) -> Iterator[Closest]:
        """Yield, for each paper, the papers with the most common references (bibliographic coupling)."""
        return _closest(self.cites, self.cited_by)


@dataclass(frozen=True)
class Closest:
    """The closest papers of some papers, as three columns, sorted by paper, then closest first, then number."""

    papers: Numbers
    others: Numbers
    strengths: Numbers
    #: The number of papers counted so far.
    done: int


def too_long(lists: Lists) -> int:
    """Return the number of lists that are longer than MOST and do not count."""
    return int(np.count_nonzero(lists.lengths > MOST))


def _closest(through: Lists, ends: Lists) -> Iterator[Closest]:
    """Yield the closest papers by the entries of `through` that they share; `ends` is the inverse of `through`."""
    lengths = np.where(ends.lengths > MOST, 0, ends.lengths)
    pairs = np.concatenate(([0], np.cumsum(lengths[through.others])))[through.begins]
    count, begin = len(through.begins) - 1, 0
    while begin < count:
        end = int(np.searchsorted(pairs, pairs[begin] + _BLOCK, side="right")) - 1
        end = min(max(end, begin + 1), count)
        between = through.others[through.begins[begin] : through.begins[end]]
        papers = np.repeat(np.arange(begin, end), through.lengths[begin:end])
        yield _strongest(
            np.repeat(papers, lengths[between]),
            ends.others[_ranges(ends.begins[between], lengths[between])],
            count,
            end,
        )
        begin = end


def _ranges(begins: Numbers, lengths: Numbers) -> Numbers:
    """Concatenate the ranges that start at `begins` and have the given `lengths`."""
    before = np.cumsum(lengths) - lengths
    found: Numbers = np.arange(int(lengths.sum())) + np.repeat(begins - before, lengths)
    return found


def _strongest(papers: Numbers, others: Numbers, count: int, done: int) -> Closest:
    """Count equal pairs of different papers, and keep the most frequent pairs of each paper."""
    pairs, strengths = np.unique((papers * count + others)[papers != others], return_counts=True)
    papers, others = np.divmod(pairs, count)
    order = np.lexsort((-strengths, papers))  # stable: equal ones stay in the order of their numbers
    papers = papers[order]
    first = np.searchsorted(papers, papers)
    strengths = strengths[order]
    place = np.arange(len(papers)) - first
    kept = place < np.where(strengths > 1, CLOSEST, np.where(strengths[first] > 1, 0, WEAKEST))
    return Closest(papers[kept], others[order[kept]], strengths[kept], done)
