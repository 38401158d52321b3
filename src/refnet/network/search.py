"""Search in the stored papers: what a user typed, and the query for one page of the list.

Words are found by their beginning or their stem, without accents, in titles and abstracts; "quoted words" as a phrase;
a DOI, an arXiv id or a URL with one as that paper. Words of `author` are beginnings of words of a name. No extension of
PostgreSQL is needed: the indexes of migration 0005 contain the folded texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

import psycopg

from refnet.network.papers import normalized

#: The most matches of a search that are read: papers with many citations, others; and for another order than citations.
MATCHES, OTHERS, ORDERED = 1000, 300, 20_000
#: The most papers with all words of a phrase that are compared with it.
PHRASED = 1000
#: The schemes of ids that are recognized in a search, the best first; a bare number is a word.
_SCHEMES = ("doi", "arxiv", "semantic_scholar", "openalex", "pubmed", "pmc", "corpus_id", "mag")
_IN_URL = {
    "doi": re.compile(r"(10\.\d{4,9}/[^\s?#&\"<>]+)"),
    "arxiv": re.compile(r"arxiv\.org/[a-z]+/([^\s?#&]+)", re.IGNORECASE),
    "semantic_scholar": re.compile(r"([0-9a-f]{40})", re.IGNORECASE),
    "openalex": re.compile(r"openalex\.org/(?:works/)?(W\d+)", re.IGNORECASE),
}
_URL = re.compile(r"(?:https?:)?//|(?:www|doi|dx\.doi|arxiv|openalex)\.", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 20

#: SQL: text in lower case, without accents, words apart. Migration 0005 indexes it, so it never changes.
FOLDED = (
    r"lower(translate(regexp_replace(normalize({}, NFD), '[\u0300-\u036F]', '', 'g'),"
    " 'øØłŁđĐıß.,-/_''’', 'oOlLdDis       '))"
)
_TEXT = FOLDED.format("coalesce(p.title, '') || ' ' || coalesce(p.abstract, '')")
#: SQL: the words of a paper, and of an author's name; the expressions of papers_words_idx and authors_words_idx.
DOCUMENT = f"to_tsvector('pg_catalog.simple', {_TEXT})"
NAME = f"to_tsvector('pg_catalog.simple', {FOLDED.format('a.name')})"
#: SQL: the condition of papers_words_top_idx: its papers come first, so common words need no others.
_TOP = "p.citation_count >= 50"
_VENUE = "left(lower({}), 200)"  # the expression of papers_venue_idx
_ASKED = "(SELECT {folded} AS w FROM unnest(%({name})s::text[]) AS word) asked"
_ASKED_WORDS, _ASKED_NAMES = (
    _ASKED.format(folded=FOLDED.format("word"), name=one) for one in ("words", "author")
)
# Subqueries, so that the planner does not know how common the words are: it then always takes the index, and no scan
# that parses each abstract. The beginning of a word, or its stem: `comput` and `computers` find `computation`. Letters
# and digits need no quotes in a tsquery. Of a beginning and a longer one only the first is asked for, as the index reads
# all words with each.
_WANTED = f"""(SELECT string_agg('(' || term || ')', ' & ')::tsquery FROM (
    SELECT string_agg(form || CASE WHEN w ~ '^[a-z0-9]$' THEN '' ELSE ':*' END, ' | ') AS term
    FROM {_ASKED_WORDS} CROSS JOIN LATERAL (
        SELECT CASE WHEN length(w) > 2 THEN (ts_lexize('pg_catalog.english_stem', w))[1] END AS stem
    ) stemmed CROSS JOIN LATERAL (
        SELECT ARRAY[w, stem, CASE WHEN right(stem, 1) = 'i' THEN left(stem, -1) || 'y' END] AS forms
    ) formed CROSS JOIN LATERAL (
        SELECT DISTINCT form FROM unnest(forms) AS form
        WHERE NOT EXISTS (SELECT FROM unnest(forms) AS other WHERE other <> form AND starts_with(form, other))
    ) needed WHERE form IS NOT NULL GROUP BY w
) terms)"""
_AUTHORS = f"(SELECT string_agg(w || ':*', ' & ')::tsquery FROM {_ASKED_NAMES})"
_FILTERS = {
    "words": f"{DOCUMENT} @@ {_WANTED}",
    "ids": """p.id IN (SELECT e.paper_id FROM external_ids e
        JOIN unnest(%(schemes)s::text[], %(ids)s::text[]) AS asked (scheme, value) USING (scheme, value))""",
    "year": "p.year = %(year)s",
    "venue": f"{_VENUE.format('p.venue')} = {_VENUE.format('%(venue)s')}",
    "author": f"""p.id IN (SELECT w.paper_id FROM paper_authors w JOIN authors a ON a.id = w.author_id
        WHERE {NAME} @@ {_AUTHORS})""",
    "provenance": "p.provenance = %(provenance)s",
    "has_summary": "EXISTS (SELECT FROM summaries s WHERE s.paper_id = p.id) = %(has_summary)s",
    "topic": "EXISTS (SELECT FROM unnest(p.fields_of_study) topic WHERE lower(topic) = lower(%(topic)s))",
    "author_id": "p.id IN (SELECT paper_id FROM paper_authors WHERE author_id = %(author_id)s)",
}
#: SQL: the text of a paper, folded. Folding takes most of the time of a phrase, and ASCII needs little of it.
_WRITTEN = "(coalesce(p.title, '') || ' ' || coalesce(p.abstract, ''))"
_PLAIN = f"CASE WHEN octet_length({_WRITTEN}) = length({_WRITTEN}) THEN lower({_WRITTEN}) ELSE {_TEXT} END"
#: What separates words, as a bracket of a regular expression; `\W` depends on the locale of the database.
_BETWEEN = r"""[]\s.,/_'’:;()[{}<>"!?&*+=|`“”„…–—-]"""
_AFTER = "({key}, p.id) < (%(key)s, %(id)s)"

_NAMES = """(SELECT coalesce(json_agg(a.name ORDER BY w.position), '[]') FROM (
    SELECT author_id, position FROM paper_authors WHERE paper_id = p.id ORDER BY position LIMIT 20
    ) w JOIN authors a ON a.id = w.author_id)"""
#: SQL: a listed paper as JSON.
LISTED = f"""json_build_object('id', p.id, 'title', p.title, 'year', p.year, 'venue', p.venue, 'authors', {_NAMES},
    'citation_count', p.citation_count, 'reference_count', p.reference_count, 'provenance', p.provenance,
    'has_details', p.details_fetched_at IS NOT NULL, 'rank', (SELECT position FROM ranks WHERE paper_id = p.id),
    'has_summary', EXISTS (SELECT FROM summaries WHERE paper_id = p.id))"""


class Sort(StrEnum):
    """The order of a list; always descending, then by id."""

    CITATIONS = "citations"
    RANK = "rank"
    YEAR = "year"

    @property
    def key(self) -> str:
        """SQL: the integer that orders the papers `p`, the greatest first."""
        return _KEYS[self]


_UNRANKED = 2**31 - 1
_KEYS = {
    Sort.CITATIONS: "coalesce(p.citation_count, -1)",
    Sort.RANK: f"-coalesce((SELECT position FROM ranks WHERE paper_id = p.id), {_UNRANKED})",
    Sort.YEAR: "coalesce(p.year, -1)",
}


@dataclass(frozen=True)
class SearchText:
    """What a user typed into the search."""

    words: tuple[str, ...] = ()
    #: Quoted phrases; their words are among `words`.
    phrases: tuple[str, ...] = ()
    #: External ids as (scheme, value): the search is for that paper.
    ids: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, text: str) -> SearchText:
        """Parse what was typed: an id or a URL with one, else words and "quoted phrases"."""
        text = unicodedata.normalize("NFC", text.strip())
        if ids := _ids(text):
            return cls(ids=ids)
        quoted = re.sub("[\u201c\u201d\u201e\u300c\u300d]", '"', text).split('"')[1::2]
        phrases = [" ".join(found) for one in quoted if len(found := _WORD.findall(one)) > 1]
        words = dict.fromkeys(_WORD.findall(text))
        return cls((*words,)[:_MOST_WORDS], tuple(phrases[:_MOST_WORDS]))

    def values(self) -> dict[str, Any]:
        """The filters and their parameters for `page_query`."""
        if self.ids:
            return {"schemes": [one for one, _ in self.ids], "ids": [value for _, value in self.ids]}
        return {"words": [*self.words]} | {f"phrase{n}": one for n, one in enumerate(self.phrases)}


def _ids(text: str) -> tuple[tuple[str, str], ...]:
    """Return the external ids that `text` names, also inside a URL; () for words."""
    if not text or text.isdecimal() or re.search(r"\s", re.sub(r"^doi:\s*", "", text, flags=re.IGNORECASE)):
        return ()
    found = {(scheme, value) for scheme in _SCHEMES if (value := normalized(scheme, text))}
    if _URL.match(text):
        inside = {scheme: one.search(unquote(text)) for scheme, one in _IN_URL.items()}
        found |= {
            (scheme, value) for scheme, one in inside.items() if one and (value := normalized(scheme, one[1]))
        }
    return tuple(sorted(found))


def words_of(name: str) -> list[str]:
    """Return the words of (a part of) a name, for the filter `author`."""
    return _WORD.findall(unicodedata.normalize("NFC", name))[:_MOST_WORDS]


def search(
    connection: psycopg.Connection[Any], filters: Mapping[str, Any], sort: Sort, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Return the first `limit` papers of a list, as in the API, and whether all matches were read."""
    query = page_query(filters, sort, LISTED, after=False)
    rows = connection.execute(query.encode(), {**filters, "limit": limit}).fetchall()
    return [row[2] for row in rows], not (rows and rows[0][3])


def any_field(text: str) -> tuple[str, dict[str, Any]]:
    """Return SQL for the ids of the papers with the words of `text`, or of an author with them; and its parameters.

    An id or a URL in `text` is that paper.
    """
    asked = SearchText.read(text)
    values = asked.values()
    if asked.ids:
        return f"SELECT p.id FROM papers p WHERE {_FILTERS['ids']}", values
    words = " AND ".join(
        [_FILTERS["words"], *(_phrase(name) for name in values if name.startswith("phrase"))]
    )
    # two queries, as no index answers an OR of both
    found = (f"SELECT p.id FROM papers p WHERE {one}" for one in (words, _FILTERS["author"]))
    return " UNION ".join(found), values | {"author": words_of(text)}


def page_query(filters: Mapping[str, Any], sort: Sort, row: str, *, after: bool) -> str:
    """Return the query of a page: its key, its id, `row` (SQL of a paper `p`), and whether more match than were read.

    Parameters: those of `filters`, `limit`, and with `after` the `key` and the `id` of the last row of the page before.
    """
    conditions = [_FILTERS[name] for name in filters if name in _FILTERS and name != "words"]
    beyond = [_AFTER.format(key=sort.key)] if after else []
    where = " AND ".join((*conditions, *beyond)) or "true"
    if "words" in filters:
        phrases = [_phrase(name) for name in filters if name.startswith("phrase")]
        if sort is Sort.RANK:
            parts, cut = _matching_ranked(
                [*conditions, *phrases], PHRASED if phrases else ORDERED, after=after
            )
        else:
            parts, cut = _matching(conditions, phrases, beyond, sort)
    elif sort is Sort.RANK and "ids" not in filters:
        parts, cut = _ranked(where, after=after), "false"
    else:
        order = f"ORDER BY {sort.key} DESC, p.id DESC LIMIT %(limit)s"
        return f"SELECT {sort.key}, p.id, {row}, false FROM papers p WHERE {where} {order}"
    return f"""WITH {parts}, page AS (
        SELECT id, key FROM (SELECT * FROM first UNION ALL SELECT * FROM rest) both_parts
        ORDER BY key DESC, id DESC LIMIT %(limit)s
    ) SELECT page.key, p.id, {row}, {cut} FROM page JOIN papers p USING (id) ORDER BY page.key DESC, p.id DESC"""


def _matching(
    conditions: Sequence[str], phrases: Sequence[str], beyond: Sequence[str], sort: Sort
) -> tuple[str, str]:
    """Return the parts `first` and `rest` of the matches, and SQL for whether more match.

    Other filters are asked of the papers with the words: else PostgreSQL may look for the words in each of theirs.
    """
    by_citations = sort is Sort.CITATIONS
    most = (
        (PHRASED, PHRASED)
        if phrases
        else (MATCHES, OTHERS)
        if by_citations and not conditions
        else (ORDERED, ORDERED)
    )
    of_part = (
        (_TOP, f"({_TOP}) IS NOT TRUE AND (SELECT count(*) FROM first) < %(limit)s")
        if by_citations
        else ("true", "false")
    )
    later = " AND ".join((*conditions, *phrases))
    chosen = (
        "SELECT p.id, m.key FROM read_{0} m JOIN papers p USING (id) WHERE "
        if later
        else "SELECT * FROM read_{0}"
    )
    parts = [
        f"""read_{name} AS MATERIALIZED (
            SELECT p.id, {sort.key} AS key FROM papers p WHERE {" AND ".join((_FILTERS["words"], *beyond, part))} LIMIT {n + 1}
        ), {name} AS MATERIALIZED ({chosen.format(name)}{later})"""
        for name, part, n in zip(("first", "rest"), of_part, most, strict=True)
    ]
    cut = " OR ".join(
        f"(SELECT count(*) > {n} FROM read_{name})" for name, n in zip(("first", "rest"), most, strict=True)
    )
    return ", ".join(parts), cut


def _matching_ranked(later: Sequence[str], most: int, *, after: bool) -> tuple[str, str]:
    """Return what `_matching` does for the order by rank: `first` has a rank, `rest` has none.

    The ranks of an array of papers are found three times as fast as those of one paper after the other. Only the first
    `most` matches are ordered, on each page the same.
    """
    papers = "JOIN papers p USING (id)" if later else ""
    beyond = "(m.key, m.id) < (%(key)s, %(id)s)" if after else "true"
    where = " AND ".join((*later, beyond))
    parts = f"""matched AS MATERIALIZED (
        SELECT ARRAY(SELECT p.id FROM papers p WHERE {_FILTERS["words"]} LIMIT {most + 1}) AS ids
    ), ranked AS MATERIALIZED (
        SELECT r.paper_id AS id, -r.position AS key FROM ranks r WHERE r.paper_id = ANY ((SELECT ids FROM matched)::bigint[])
    ), first AS MATERIALIZED (
        SELECT m.id, m.key FROM ranked m {papers} WHERE {where}
    ), rest AS MATERIALIZED (
        SELECT m.id, m.key FROM (SELECT unnest(ids) AS id, -{_UNRANKED} AS key FROM matched) m {papers}
        WHERE (SELECT count(*) FROM first) < %(limit)s AND NOT EXISTS (SELECT FROM ranked r WHERE r.id = m.id) AND {where}
    )"""
    return parts, f"(SELECT cardinality(ids) > {most} FROM matched)"


def _phrase(name: str) -> str:
    between = _BETWEEN.replace("'", "''")
    asked = f"SELECT string_agg(w, '{between}+' ORDER BY number) FROM (SELECT {FOLDED.format('word')} AS w, number"
    asked += (
        f" FROM regexp_split_to_table(%({name})s::text, ' ') WITH ORDINALITY AS words (word, number)) asked"
    )
    return f"{_PLAIN} ~ ('(^|{between})' || ({asked}) || '($|{between})')"


def _ranked(where: str, *, after: bool) -> str:
    """Return `first`, the papers with a rank by the index of ranks, and `rest`, those without one."""
    beyond = "AND r.position >= -%(key)s" if after else ""
    return f"""first AS MATERIALIZED (
        SELECT p.id, -r.position AS key FROM ranks r JOIN papers p ON p.id = r.paper_id WHERE {where} {beyond}
        ORDER BY r.position, p.id DESC LIMIT %(limit)s
    ), rest AS MATERIALIZED (
        SELECT p.id, -{_UNRANKED} AS key FROM papers p WHERE {where}
            AND NOT EXISTS (SELECT FROM ranks r WHERE r.paper_id = p.id) AND (SELECT count(*) FROM first) < %(limit)s
        ORDER BY p.id DESC LIMIT %(limit)s
    )"""
