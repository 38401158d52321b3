"""What a vault needs of the database: the content of notes, and the paper of each existing note.

Few queries, for any number of papers. A note is matched by external ids; an older one by row id and title.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from refnet.network import EXTRACT_MODEL
from refnet.network.frontmatter import TITLE, Id, NoteMark
from refnet.network.layout import AMONG, Links, links
from refnet.network.note import Paper
from refnet.network.papers import title_key

_ROWS = 500
_NAMES_ROWS = 5000
#: SQL: whether the paper `p` has a note. Others are stubs, known only as an end of a citation.
NOTED = """(%(stubs)s OR p.details_fetched_at IS NOT NULL OR p.provenance IN ('cora', 'sample')
    OR p.id = ANY (%(kept)s))"""

#: Otherwise a server-side cursor is planned for its first rows only.
_ALL_ROWS = "SET LOCAL cursor_tuple_fraction = 1; SET LOCAL jit = off"

_SEEDS = """
SELECT paper_id, max(crawl_id) FROM crawl_papers JOIN crawls ON crawls.id = crawl_id
WHERE crawl_papers.level = 0 AND NOT is_update GROUP BY paper_id ORDER BY paper_id
"""

_NAMES = """
SELECT p.id, p.title, p.year, r.position, a.name, e.ids, NOTED
FROM papers p
LEFT JOIN ranks r ON r.paper_id = p.id
LEFT JOIN paper_authors w ON w.paper_id = p.id AND w.position = 1
LEFT JOIN authors a ON a.id = w.author_id
LEFT JOIN (SELECT paper_id, min(scheme || ' ' || value) AS ids FROM external_ids GROUP BY paper_id) e
    ON e.paper_id = p.id AND p.title IS NULL
ORDER BY p.id
""".replace("NOTED", NOTED)

_PAPERS = """
SELECT p.id, p.title, w.names, p.year, p.venue, p.abstract, s.content, s.model, p.citation_count, p.provenance,
       e.schemes, e.found, c.cited, b.citing, r.position, p.open_access_url, n.others, n.kinds, n.strengths,
       w.numbers, ARRAY(SELECT one FROM unnest(p.fields_of_study) AS one WHERE one <> '' LIMIT 20), q.quotes
FROM papers p
LEFT JOIN ranks r ON r.paper_id = p.id
LEFT JOIN (SELECT paper_id, array_agg(a.name ORDER BY position) AS names, array_agg(a.id ORDER BY position) AS numbers
           FROM paper_authors JOIN authors a ON a.id = author_id GROUP BY paper_id) w ON w.paper_id = p.id
LEFT JOIN (SELECT paper_id, array_agg(scheme ORDER BY scheme, value) AS schemes,
                  array_agg(value ORDER BY scheme, value) AS found
           FROM external_ids GROUP BY paper_id) e ON e.paper_id = p.id
LEFT JOIN (SELECT citing_id, array_agg(cited_id ORDER BY cited_id) AS cited FROM citations GROUP BY citing_id) c ON c.citing_id = p.id
LEFT JOIN (SELECT cited_id, array_agg(citing_id ORDER BY citing_id) AS citing FROM citations GROUP BY cited_id) b ON b.cited_id = p.id
LEFT JOIN (SELECT paper_id, array_agg(other_id ORDER BY strength DESC, other_id, kind) AS others,
                  array_agg(kind ORDER BY strength DESC, other_id, kind) AS kinds,
                  array_agg(strength ORDER BY strength DESC, other_id, kind) AS strengths
           FROM related_papers GROUP BY paper_id) n ON n.paper_id = p.id
LEFT JOIN (SELECT DISTINCT ON (paper_id) paper_id, content, model
           FROM summaries ORDER BY paper_id, model = 'EXTRACT', created_at DESC, id DESC) s ON s.paper_id = p.id
LEFT JOIN (SELECT cited_id, jsonb_agg(jsonb_build_array(citing_id, quote, weight) ORDER BY nth) AS quotes
           FROM (SELECT cited_id, citing_id, left(contexts -> 0 ->> 'context', 1000) AS quote, is_influential IS TRUE AS weight,
                        row_number() OVER (PARTITION BY cited_id ORDER BY is_influential IS TRUE DESC, citing_id DESC) AS nth
                 FROM citations WHERE contexts -> 0 ->> 'context' <> '') _
           WHERE nth <= 10 GROUP BY cited_id) q ON q.cited_id = p.id
WHERE NOTED
ORDER BY p.id
""".replace("NOTED", NOTED).replace("EXTRACT", EXTRACT_MODEL)


_MISSING = """
SELECT p.id, r.cited_by FROM ranks r JOIN papers p ON p.id = r.paper_id
WHERE r.cited_by > 1 AND NOT NOTED ORDER BY r.cited_by DESC, r.position LIMIT %(most)s
""".replace("NOTED", NOTED)

_IDS = """
SELECT scheme, value, paper_id FROM external_ids JOIN unnest(%s::text[], %s::text[]) AS asked (scheme, value)
    USING (scheme, value)
"""
_TITLE_KEYS = f"SELECT '{TITLE}', title_key, id FROM papers WHERE title_key = ANY (%s)"  # noqa: S608
_TITLES = "SELECT id, title, year FROM papers WHERE id = ANY (%s) OR title = ANY (%s)"


@dataclass(frozen=True)
class NotedPapers:
    """The papers that get notes, in addition to those with details."""

    #: All stubs.
    stubs: bool
    #: Row ids of papers that already have a note, or are seeds.
    kept: Sequence[int]


def seeds(connection: psycopg.Connection) -> dict[int, int]:
    """Return row id of each seed → id of the last crawl that started from it."""
    return dict(connection.execute(_SEEDS).fetchall())


def names(connection: psycopg.Connection, wanted: NotedPapers) -> Iterator[tuple[Paper, bool]]:
    """Yield every paper with the fields for its name and links, and whether it has a note."""
    connection.execute(_ALL_ROWS)
    with connection.cursor("names") as cursor:
        cursor.itersize = _NAMES_ROWS
        for number, title, year, rank, author, found, noted in cursor.execute(_NAMES, vars(wanted)):
            ids = dict([found.split(" ", 1)]) if found else {}
            yield Paper(number, title, (author,) if author else (), year, ids=ids, rank=rank), noted


def rows(connection: psycopg.Connection, wanted: NotedPapers) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each paper with a note, the row id first; `paper` converts it."""
    with connection.cursor("papers") as cursor:
        cursor.itersize = _ROWS
        yield from cursor.execute(_PAPERS, vars(wanted))


def paper(row: tuple[Any, ...], pdf: str = "") -> Paper:
    """Convert a row of `rows` to the content of a note. pdf: see `Paper`."""
    number, title, authors, year, venue, abstract, summary, model, cited, provenance = row[:10]
    schemes, values, references, citing, rank, url, others, kinds, strengths, numbers, topics, quotes = row[
        10:
    ]
    ids = tuple(zip(schemes or (), values or (), strict=True))
    return Paper(
        number, title, tuple(authors or ()), year, venue, abstract, summary, cited, provenance,
        dict(reversed(ids)), tuple(references or ()), tuple(citing or ()),
        model or "", rank, url, tuple(zip(others or (), kinds or (), strengths or (), strict=True)), ids,
        tuple(numbers or ()), tuple(topics), tuple((by, said, weight) for by, said, weight in quotes or ()), pdf,
    )  # fmt: skip


def ids(row: tuple[Any, ...]) -> Iterator[str]:
    """Yield the external ids in a row of `rows`, as `scheme:value`."""
    return (f"{scheme}:{value}" for scheme, value in zip(row[10] or (), row[11] or (), strict=True))


def among(connection: psycopg.Connection, ids: Sequence[int]) -> Links:
    """Return what links the papers `ids`."""
    return links(connection.execute(AMONG, {"ids": ids}).fetchall())


def missing(connection: psycopg.Connection, wanted: NotedPapers, most: int) -> list[tuple[int, int]]:
    """Return the most cited papers without a note: (row id, number of stored citations)."""
    return connection.execute(_MISSING, vars(wanted) | {"most": most}).fetchall()


@dataclass
class Matches:
    """The papers of the database that marks may refer to."""

    by_id: dict[Id, int]
    #: Normalized title → row ids of papers, each with its year.
    titled: dict[str, dict[int, int | None]] = field(default_factory=lambda: defaultdict(dict))
    #: Row id in an older note → title of that paper in the database.
    titles: dict[int, str | None] = field(default_factory=dict)

    def paper(self, mark: NoteMark) -> int | str | None:
        """The row id of the paper of `mark`; None if it is not in the database; a sentence if it is ambiguous."""
        if not mark.number:
            return self._of_ids(mark.ids)
        same = self.titled.get(title_key(mark.title) or "", {})
        found = [one for one, year in same.items() if not (year and mark.year) or year == mark.year]
        if mark.number in found:
            return mark.number
        if not found and (known := self.by_id.get(_named(mark.title))):
            return known
        if len(found) == 1:
            return found[0]
        if found:
            return "it has no external id, and several papers have its title"
        if mark.number not in self.titles:
            return None
        return (
            f"it has no external id, and paper {mark.number} of this database has another title,"
            f" {self.titles[mark.number] or 'none'}"
        )

    def _of_ids(self, ids: Iterable[Id]) -> int | str | None:
        found: dict[int, Id] = {}
        for one in ids:
            if one in self.by_id:
                found.setdefault(self.by_id[one], one)
        if len(found) > 1:
            named = " and ".join(f"{scheme}:{value}" for scheme, value in [*found.values()][:3])
            return f"its ids contradict each other: {named} are different papers"
        return next(iter(found), None)


def matches(connection: psycopg.Connection, marks: Sequence[NoteMark]) -> Matches:
    """Look up all `marks` in the database, in few queries."""
    old = [mark for mark in marks if mark.number]
    ids = {one for mark in marks for one in mark.ids} | {
        named for mark in old if (named := _named(mark.title))[1]
    }
    schemes, values = [one for one, _ in ids], [one for _, one in ids]
    found = Matches({})
    for query, given in (
        (_IDS, [schemes, values]),
        (_TITLE_KEYS, [[value for scheme, value in ids if scheme == TITLE]]),
    ):
        found.by_id |= {(scheme, value): number for scheme, value, number in connection.execute(query, given)}
    if old:
        titles = [mark.title for mark in old if "\0" not in mark.title]
        for number, title, year in connection.execute(_TITLES, [[mark.number for mark in old], titles]):
            found.titles[number] = title
            found.titled[title_key(title or "") or ""][number] = year
    found.titled.pop("", None)
    return found


def _named(title: str) -> Id:
    """Return the id in a heading without title, such as `cora 35`."""
    scheme, _, value = title.partition(" ")
    return (scheme, value if title.isprintable() and scheme != TITLE else "")
