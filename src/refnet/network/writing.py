"""Writes papers and citations into the database, within the caller's transaction.

One writer at a time: each call takes an advisory lock until the transaction ends. So writers neither deadlock nor
create a paper twice, and transactions must be short: no requests to a provider inside.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeVar

import psycopg
from psycopg.errors import DeadlockDetected, SerializationFailure

from refnet.network.merging import COLUMNS, LISTS, ROW, PaperRow, merge
from refnet.network.papers import FoundAuthor, FoundEdge, FoundPaper, title_key

#: The key of the advisory lock, "papr" in ASCII.
_LOCK = 0x70617072
_TRIES = 6

_Value = TypeVar("_Value")
#: A scheme and a value of `external_ids`, or _TITLE and a title_key.
_Key = tuple[str, str]
_TITLE = "title_key"
#: The identity of an author: scheme and value, or the paper's id and the name.
_AuthorKey = tuple[str | int, str]


def retried(connection: psycopg.Connection[Any], work: Callable[[psycopg.Cursor[Any]], _Value]) -> _Value:
    """Run `work` in a transaction and return its result; retry after a deadlock or serialization failure."""
    for pause in range(_TRIES):
        try:
            with connection.transaction(), connection.cursor() as cursor:
                return work(cursor)
        except (DeadlockDetected, SerializationFailure):
            time.sleep(random.random() * 0.05 * 2**pause)  # noqa: S311  # jitter
    with connection.transaction(), connection.cursor() as cursor:
        return work(cursor)


def lock(cursor: psycopg.Cursor[Any]) -> None:
    """Wait until no other transaction writes papers; ids of papers stay valid until this transaction ends.

    For callers that read a paper's id and then use it in a write: without the lock, a merge may delete its row.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def write_papers(cursor: psycopg.Cursor[Any], papers: Sequence[FoundPaper]) -> list[int]:
    """Write `papers`, each with an id or a title; return their row ids, in order.

    A paper with ids is matched to the row with one of them, a paper without ids to the row with its title_key. Rows of
    the same paper are merged: the lowest row id stays, the others are deleted.
    """
    return _write(cursor, papers).ids


def write_edges(
    cursor: psycopg.Cursor[Any],
    paper_id: int,
    direction: Literal["references", "citations"],
    edges: Sequence[FoundEdge],
    provenance: str,
) -> int:
    """Write a paper's references or citations, with the papers at the other ends; return the number of new citations.

    Self-citations are dropped. An existing citation stays, and missing fields are filled in. Read `paper_id` after
    `lock`, in the same transaction.
    """
    written = _write(cursor, [edge.paper for edge in edges])
    paper_id = written.merged.get(paper_id, paper_id)
    ends: dict[int, dict[str, Any]] = {}
    for other, edge in zip(written.ids, edges, strict=True):
        one = ends.setdefault(other, {"other": other})
        given = {"influential": edge.is_influential, "intents": edge.intents, "contexts": edge.contexts}
        one.update(
            {name: value for name, value in given.items() if value not in (None, ()) and name not in one}
        )
    ends.pop(paper_id, None)
    if not ends:
        return 0
    pair = ("%(paper)s", "other") if direction == "references" else ("other", "%(paper)s")
    values = {"paper": paper_id, "provenance": provenance, "ends": _json(list(ends.values()))}
    cursor.execute(_EDGES.format(*pair), values)
    return sum(new for (new,) in cursor.fetchall())


@dataclass(frozen=True)
class _Written:
    #: The row id of each paper, in order.
    ids: list[int]
    #: Id of a deleted row → id of the row that it was merged into.
    merged: dict[int, int]


def _write(cursor: psycopg.Cursor[Any], papers: Sequence[FoundPaper]) -> _Written:
    if not papers:
        return _Written([], {})
    lock(cursor)
    keys = [_keys(paper) for paper in papers]
    known = _read(cursor, keys)
    groups = _grouped([*keys, *_by_row(known)])
    if same := _same(known, groups):
        merge(cursor, same)
        known = _read(cursor, keys)
    row_of = {groups[key]: row for key, row in known.items()}
    missing = [group for group in dict.fromkeys(groups[first] for first, *_ in keys) if group not in row_of]
    row_of |= zip(missing, map(PaperRow, _numbers(cursor, "papers", len(missing))), strict=True)
    rows = [row_of[groups[first]] for first, *_ in keys]
    for row, paper in zip(rows, papers, strict=True):
        row.fill(paper)
    ids = [(*key, row_of[group].id) for key, group in groups.items() if key not in known and key[0] != _TITLE]
    titles = {row_of[group].id: key for (scheme, key), group in groups.items() if scheme == _TITLE}
    _store(cursor, row_of.values(), ids, titles)
    _store_more(cursor, rows, papers)
    return _Written([row.id for row in rows], {gone: kept for kept, *others in same for gone in others})


def _keys(paper: FoundPaper) -> list[_Key]:
    if paper.ids:
        return list(paper.ids.items())
    if key := title_key(paper.title or ""):
        return [(_TITLE, key)]
    raise ValueError("a paper without id and title")


def _read(cursor: psycopg.Cursor[Any], keys: Sequence[Sequence[_Key]]) -> dict[_Key, PaperRow]:
    """Return key → row, for the keys in the database; keys of the same row share one object."""
    asked = {key for one in keys for key in one}
    ids = [key for key in asked if key[0] != _TITLE]
    titles = [key for scheme, key in asked if scheme == _TITLE]
    cursor.execute(_ROWS, [[scheme for scheme, _ in ids], [value for _, value in ids], titles])
    rows: dict[int, PaperRow] = {}
    known = {}
    for scheme, value, number, provenance, origins, filled, published in cursor:
        row = PaperRow(number, provenance, origins, set(filled), published, new=False)
        known[scheme, value] = rows.setdefault(number, row)
    return known


def _by_row(known: dict[_Key, PaperRow]) -> Iterable[list[_Key]]:
    keys = defaultdict(list)
    for key, row in known.items():
        keys[row.id].append(key)
    return keys.values()


def _grouped(keys: Iterable[Sequence[_Key]]) -> dict[_Key, _Key]:
    """Map each key to its group's representative; a group contains the keys of one paper."""
    leader: dict[_Key, _Key] = {}

    def find(key: _Key) -> _Key:
        while (above := leader.setdefault(key, key)) != key:
            leader[key] = leader[above]  # halves the path
            key = above
        return key

    for first, *others in keys:
        find(first)
        for other in others:
            leader[find(other)] = find(first)
    return {key: find(key) for key in list(leader)}


def _same(known: dict[_Key, PaperRow], groups: dict[_Key, _Key]) -> list[list[int]]:
    """Return groups of row ids of the same paper, ascending."""
    ids = defaultdict(set)
    for key, row in known.items():
        ids[groups[key]].add(row.id)
    return [sorted(one) for one in ids.values() if len(one) > 1]


def _store(
    cursor: psycopg.Cursor[Any],
    rows: Iterable[PaperRow],
    ids: list[tuple[str, str, int]],
    titles: dict[int, str],
) -> None:
    """Insert and update rows, and insert their new external ids."""
    changed = [
        {name: value for name, value in row.values.items() if name in COLUMNS}
        | {"id": row.id, "provenance": row.provenance, "field_provenance": row.origins}
        | {"details_fetched_at": "now" if row.detailed else None, "title_key": titles.get(row.id)}
        for row in rows
        if row.new or row.values or row.detailed
    ]
    if changed or ids:
        columns = [list(column) for column in zip(*ids, strict=True)] or [[], [], []]
        cursor.execute(_PAPERS, [_json(changed), *columns])


def _store_more(cursor: psycopg.Cursor[Any], rows: Sequence[PaperRow], papers: Sequence[FoundPaper]) -> None:
    """Write the authors and the providers' own summaries."""
    given = {row.id: row for row in rows if "authors" in row.values}
    if given:
        _write_authors(cursor, given)
    tldrs = {
        (row.id, paper.tldr.model): {
            "paper_id": row.id,
            "model": paper.tldr.model,
            "content": paper.tldr.text,
        }
        for row, paper in zip(rows, papers, strict=True)
        if paper.tldr
    }
    if tldrs:
        cursor.execute(_TLDRS, [_json(list(tldrs.values()))])


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, default=date.isoformat)


def _numbers(cursor: psycopg.Cursor[Any], table: str, count: int) -> list[int]:
    """Take `count` ids from the sequence of `table`."""
    if not count:
        return []
    cursor.execute(
        "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", [table, count]
    )
    return [number for (number,) in cursor]


def _write_authors(cursor: psycopg.Cursor[Any], rows: Mapping[int, PaperRow]) -> None:
    """Replace the authors of papers by `values["authors"]` of `rows` (paper's id → row); needs the writer's lock."""
    named = {paper: [(_key(paper, one), one) for one in row.values["authors"]] for paper, row in rows.items()}
    found = {key: (one, _origin(rows[paper])) for paper, several in named.items() for key, one in several}
    ids = _known(cursor, list(found), list(rows))
    new = [key for key in found if key not in ids]
    ids |= dict(zip(new, _numbers(cursor, "authors", len(new)), strict=True))
    places = [
        (paper, place, ids[key])
        for paper, several in named.items()
        for place, (key, _) in enumerate(several, 1)
    ]
    made = [(ids[key], *_ids(key), found[key][0].name, found[key][1]) for key in new]
    cursor.execute(
        _WRITE_AUTHORS,
        [
            *_columns(made, 5),
            list(named),
            [len(several) for several in named.values()],
            *_columns(places, 3),
        ],
    )


def _origin(row: PaperRow) -> str:
    return row.origins.get("authors", row.provenance)


def _key(paper: int, author: FoundAuthor) -> _AuthorKey:
    if author.scholar_id:
        return "semantic_scholar", author.scholar_id
    return ("orcid", author.orcid) if author.orcid else (paper, author.name)


def _ids(key: _AuthorKey) -> tuple[str | None, str | None]:
    """Return the authors' columns semantic_scholar_id and orcid."""
    scheme, value = key
    return (value if scheme == "semantic_scholar" else None), (value if scheme == "orcid" else None)


def _known(cursor: psycopg.Cursor[Any], keys: list[_AuthorKey], papers: list[int]) -> dict[_AuthorKey, int]:
    scholars, orcids = ([key[1] for key in keys if key[0] == one] for one in ("semantic_scholar", "orcid"))
    cursor.execute(_KNOWN, [scholars, orcids, papers])
    return {(int(of) if of.isdecimal() else of, value): number for of, value, number in cursor}


def _columns(rows: list[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[]] * count


_ROWS = f"""
WITH hit AS (
    SELECT scheme, value, paper_id
    FROM unnest(%s::text[], %s::text[]) AS asked (scheme, value) JOIN external_ids USING (scheme, value)
    UNION ALL
    SELECT '{_TITLE}', title_key, id FROM papers WHERE title_key = ANY (%s::text[])
)
SELECT hit.scheme, hit.value, {ROW} FROM hit JOIN papers AS paper ON paper.id = hit.paper_id
"""  # noqa: S608  # constants alone, here and below

_COLUMNS = ", ".join(COLUMNS)
_OLD_VALUES = ", ".join(f"paper.{column}" for column in COLUMNS)
_NEW_VALUES = ", ".join(
    f"coalesce(nullif(EXCLUDED.{one}, '{{}}'), paper.{one})"
    if one in LISTS
    else f"coalesce(EXCLUDED.{one}, paper.{one})"
    for one in COLUMNS
)

_PAPERS = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_populate_recordset(NULL::papers, %s::json)
), made AS (
    INSERT INTO papers AS paper (id, provenance, field_provenance, details_fetched_at, title_key, {_COLUMNS})
    OVERRIDING SYSTEM VALUE
    SELECT id, provenance, field_provenance, details_fetched_at, title_key,
        {", ".join(f"coalesce({one}, '{{}}')" if one in LISTS else one for one in COLUMNS)}
    FROM given
    ON CONFLICT (id) DO UPDATE SET ({_COLUMNS}) = ROW ({_NEW_VALUES}),
        field_provenance = EXCLUDED.field_provenance,
        details_fetched_at = coalesce(EXCLUDED.details_fetched_at, paper.details_fetched_at),
        updated_at = CASE WHEN ({_OLD_VALUES}) IS DISTINCT FROM ({_NEW_VALUES}) THEN now() ELSE paper.updated_at END
), counted AS (
    INSERT INTO citation_counts (paper_id, day, citation_count)
    SELECT id, (now() AT TIME ZONE 'UTC')::date, citation_count FROM given
    WHERE details_fetched_at IS NOT NULL AND citation_count IS NOT NULL AND citation_count IS DISTINCT FROM (
        SELECT last.citation_count FROM citation_counts AS last WHERE paper_id = given.id ORDER BY day DESC LIMIT 1
    )
    ON CONFLICT (paper_id, day) DO UPDATE SET citation_count = EXCLUDED.citation_count
)
INSERT INTO external_ids (scheme, value, paper_id)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[])
"""  # noqa: S608

_EDGES = """
INSERT INTO citations AS old (citing_id, cited_id, is_influential, intents, contexts, provenance)
SELECT {0}, {1}, influential, coalesce(intents, '{{}}'), coalesce(contexts, '[]'), %(provenance)s
FROM json_to_recordset(%(ends)s::json)
    AS given (other bigint, influential boolean, intents text[], contexts jsonb)
ON CONFLICT (citing_id, cited_id) DO UPDATE SET
    is_influential = coalesce(old.is_influential, EXCLUDED.is_influential),
    intents = CASE WHEN old.intents = '{{}}' THEN EXCLUDED.intents ELSE old.intents END,
    contexts = CASE WHEN old.contexts = '[]' THEN EXCLUDED.contexts ELSE old.contexts END
    WHERE (old.is_influential IS NULL AND EXCLUDED.is_influential IS NOT NULL)
        OR (old.intents = '{{}}' AND EXCLUDED.intents <> '{{}}')
        OR (old.contexts = '[]' AND EXCLUDED.contexts <> '[]')
RETURNING xmax = 0
"""

_TLDRS = """
INSERT INTO summaries AS old (paper_id, kind, model, content)
SELECT paper_id, 'tldr', model, content
FROM json_to_recordset(%s::json) AS given (paper_id bigint, model text, content text)
ON CONFLICT (paper_id, kind, language, model, prompt_version) DO UPDATE SET content = EXCLUDED.content
    WHERE old.content <> EXCLUDED.content
"""

_KNOWN = """
SELECT 'semantic_scholar', semantic_scholar_id, id FROM authors WHERE semantic_scholar_id = ANY (%s::text[])
UNION ALL
SELECT 'orcid', orcid, id FROM authors WHERE orcid = ANY (%s::text[])
UNION ALL
SELECT paper_id::text, name, id FROM paper_authors JOIN authors ON id = author_id
WHERE paper_id = ANY (%s::bigint[]) AND semantic_scholar_id IS NULL AND orcid IS NULL
"""

_WRITE_AUTHORS = """
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
