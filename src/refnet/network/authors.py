"""Writes the authors of papers: one row for each provider's id, and for each name without id on a paper."""

from collections.abc import Mapping
from typing import Any

import psycopg

from refnet.network.merging import Row
from refnet.network.papers import FoundAuthor

#: The identity of an author: scheme and value, or the paper's id and the name.
_Key = tuple[str | int, str]


def numbers(cursor: psycopg.Cursor[Any], table: str, count: int) -> list[int]:
    """Take `count` ids from the sequence of `table`."""
    if not count:
        return []
    cursor.execute(
        "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", [table, count]
    )
    return [number for (number,) in cursor]


def write_authors(cursor: psycopg.Cursor[Any], rows: Mapping[int, Row]) -> None:
    """Replace the authors of papers by `values["authors"]` of `rows` (paper's id → row); needs the writer's lock."""
    named = {paper: [(_key(paper, one), one) for one in row.values["authors"]] for paper, row in rows.items()}
    found = {key: (one, _origin(rows[paper])) for paper, several in named.items() for key, one in several}
    ids = _known(cursor, list(found), list(rows))
    new = [key for key in found if key not in ids]
    ids |= dict(zip(new, numbers(cursor, "authors", len(new)), strict=True))
    places = [
        (paper, place, ids[key])
        for paper, several in named.items()
        for place, (key, _) in enumerate(several, 1)
    ]
    made = [(ids[key], *_ids(key), found[key][0].name, found[key][1]) for key in new]
    cursor.execute(
        _WRITE,
        [
            *_columns(made, 5),
            list(named),
            [len(several) for several in named.values()],
            *_columns(places, 3),
        ],
    )


def _origin(row: Row) -> str:
    return row.origins.get("authors", row.provenance)


def _key(paper: int, author: FoundAuthor) -> _Key:
    if author.scholar_id:
        return "semantic_scholar", author.scholar_id
    return ("orcid", author.orcid) if author.orcid else (paper, author.name)


def _ids(key: _Key) -> tuple[str | None, str | None]:
    """Return the authors' columns semantic_scholar_id and orcid."""
    scheme, value = key
    return (value if scheme == "semantic_scholar" else None), (value if scheme == "orcid" else None)


def _known(cursor: psycopg.Cursor[Any], keys: list[_Key], papers: list[int]) -> dict[_Key, int]:
    scholars, orcids = ([key[1] for key in keys if key[0] == one] for one in ("semantic_scholar", "orcid"))
    cursor.execute(_KNOWN, [scholars, orcids, papers])
    return {(int(of) if of.isdecimal() else of, value): number for of, value, number in cursor}


def _columns(rows: list[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[]] * count


_KNOWN = """
SELECT 'semantic_scholar', semantic_scholar_id, id FROM authors WHERE semantic_scholar_id = ANY (%s::text[])
UNION ALL
SELECT 'orcid', orcid, id FROM authors WHERE orcid = ANY (%s::text[])
UNION ALL
SELECT paper_id::text, name, id FROM paper_authors JOIN authors ON id = author_id
WHERE paper_id = ANY (%s::bigint[]) AND semantic_scholar_id IS NULL AND orcid IS NULL
"""

_WRITE = """
WITH made AS (
    INSERT INTO authors (id, semantic_scholar_id, orcid, name, provenance) OVERRIDING SYSTEM VALUE
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[])
), gone AS (
    DELETE FROM paper_authors AS old USING unnest(%s::bigint[], %s::integer[]) AS given (paper_id, count)
    WHERE old.paper_id = given.paper_id AND position > count
)
INSERT INTO paper_authors AS old (paper_id, position, author_id)
SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::bigint[])
ON CONFLICT (paper_id, position) DO UPDATE SET author_id = EXCLUDED.author_id
    WHERE old.author_id <> EXCLUDED.author_id
"""
