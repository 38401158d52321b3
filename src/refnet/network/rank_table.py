"""The stored ranks as a table: the top papers, the closest pairs, the most cited stubs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from psycopg.rows import class_row

from refnet.network import SESSION, STUB, server_errors
from refnet.network.reading import to_read
from refnet.postgres.session import Target

#: The number of closest pairs shown of each kind.
_PAIRS = 5


@dataclass(frozen=True)
class RankedPaper:
    """A paper with its rank."""

    position: int
    pagerank: float
    #: The number of stored citations and references.
    cited_by: int
    cites: int
    id: int
    year: int | None
    #: The title, or an id if there is no title.
    title: str
    #: The closest papers: [{"id": …, "title": …, "strength": …}], the closest first.
    co_citation: list[dict[str, Any]]
    coupling: list[dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """Two close papers."""

    kind: str
    #: The number of papers that cite both (co_citation), or of common references (coupling).
    strength: int
    one: str
    other: str


@dataclass(frozen=True)
class MissingPaper:
    """A stub that papers with details cite."""

    #: The number of these papers.
    cited_by: int
    id: int
    year: int | None
    title: str
    #: The id for `refnet crawl`; None: no provider's id is known.
    crawl_id: str | None


@dataclass(frozen=True)
class RankTable:
    papers: list[RankedPaper]
    pairs: list[Pair]
    #: None: not requested.
    missing: list[MissingPaper] | None = None
    #: What to read first: {"id", "title", "year", "why", "score", …}; None: not requested.
    first: list[dict[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


_TITLE = """coalesce({0}.title, (SELECT min(scheme || ' ' || value) FROM external_ids WHERE paper_id = {0}.id),
    'paper ' || {0}.id)"""
_CLOSEST = f"""ARRAY(SELECT jsonb_build_object('id', o.id, 'title', {_TITLE.format("o")}, 'strength', c.strength)
    FROM related_papers AS c JOIN papers AS o ON o.id = c.other_id
    WHERE c.paper_id = p.id AND c.kind = '{{0}}' ORDER BY c.strength DESC, o.id)"""  # noqa: S608
_PAPERS = f"""
SELECT r.position, r.pagerank, r.cited_by, r.cites, p.id, p.year, {_TITLE.format("p")} AS title,
    {_CLOSEST.format("co_citation")} AS co_citation, {_CLOSEST.format("coupling")} AS coupling
FROM ranks AS r JOIN papers AS p ON p.id = r.paper_id
ORDER BY r.position LIMIT %s
"""  # noqa: S608
_NAMED = f"SELECT p.id, {_TITLE.format('p')}, p.year FROM papers AS p WHERE p.id = ANY (%s)"  # noqa: S608
_CLOSEST_PAIRS = f"""
SELECT pair.kind, pair.strength, {_TITLE.format("a")} AS one, {_TITLE.format("b")} AS other
FROM (SELECT DISTINCT kind, strength, least(paper_id, other_id) AS one, greatest(paper_id, other_id) AS other
      FROM related_papers WHERE kind = %s ORDER BY strength DESC, one, other LIMIT %s) AS pair
JOIN papers AS a ON a.id = pair.one JOIN papers AS b ON b.id = pair.other
ORDER BY pair.strength DESC, pair.one, pair.other
"""  # noqa: S608
#: Scheme of external_ids → its prefix for `refnet crawl`; the first scheme that a paper has is shown.
_CRAWLED = {
    "doi": "DOI:",
    "arxiv": "ARXIV:",
    "semantic_scholar": "",
    "corpus_id": "CorpusId:",
    "pubmed": "PMID:",
    "pmc": "PMCID:",
    "acl": "ACL:",
    "mag": "MAG:",
}
_MISSING = f"""
SELECT found.cited_by, p.id, p.year, {_TITLE.format("p")} AS title,
    (SELECT given.prefix || e.value FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given (scheme, prefix, place)
     JOIN external_ids AS e ON e.scheme = given.scheme AND e.paper_id = p.id
     ORDER BY given.place, e.value LIMIT 1) AS crawl_id
FROM (SELECT c.cited_id, count(*)::integer AS cited_by
      FROM citations AS c JOIN papers AS p ON p.id = c.citing_id WHERE NOT {STUB} GROUP BY c.cited_id) AS found
JOIN papers AS p ON p.id = found.cited_id
WHERE {STUB}
ORDER BY found.cited_by DESC, p.id LIMIT %s
"""  # noqa: S608


def table(target: Target, top: int, *, missing: bool = False, first: bool = False) -> RankTable:
    """Return the first `top` papers and the closest pairs.

    Args:
        missing: also the `top` most cited stubs.
        first: also the `top` papers to read first, of all that are ranked.
    """
    with (
        server_errors(target, "cannot be read", "Fix the cause and retry."),
        target.connect(SESSION) as connection,
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        papers = connection.cursor(row_factory=class_row(RankedPaper)).execute(_PAPERS, [top]).fetchall()
        pairs = connection.cursor(row_factory=class_row(Pair))
        closest = [
            one
            for kind in ("co_citation", "coupling")
            for one in pairs.execute(_CLOSEST_PAIRS, [kind, _PAIRS]).fetchall()
        ]
        if first:
            reading = {one.id: one for one in to_read(connection, None, top)}
            named = {
                number: (title, year) for number, title, year in connection.execute(_NAMED, [[*reading]])
            }
            listed = [
                asdict(one) | {"title": named[number][0], "year": named[number][1], "why": one.why}
                for number, one in reading.items()
            ]
            return RankTable(papers, closest, first=listed)
        if not missing:
            return RankTable(papers, closest)
        stubs = connection.cursor(row_factory=class_row(MissingPaper))
        stubs.execute(_MISSING, [[*_CRAWLED], [*_CRAWLED.values()], top])
        return RankTable(papers, closest, stubs.fetchall())
