"""Fills a paper's row from new answers, and merges rows of the same paper.

A published version wins over a preprint. Else the first provider's values stay, until its later answers renew them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import psycopg

from refnet.network.papers import FoundPaper

#: The columns of `papers` that a provider fills, named like the fields of FoundPaper.
COLUMNS = tuple(
    one.name
    for one in fields(FoundPaper)
    if one.name not in {"provenance", "ids", "authors", "tldr", "detailed"}
)
FILLED = (*COLUMNS, "authors")
#: The list columns among these: empty instead of null.
LISTS = ("publication_types", "fields_of_study")
#: The prefix of arXiv's DOIs, which belong to preprints.
_PREPRINT = "10.48550/arxiv."


@dataclass(slots=True)
class PaperRow:
    """A paper's row while it is filled from new answers."""

    id: int
    #: The provider of the first answer.
    provenance: str = ""
    #: Column → provider (`field_provenance`).
    origins: dict[str, str] = field(default_factory=dict)
    #: The columns with a value; also `authors`.
    filled: set[str] = field(default_factory=set)
    #: Whether it has a DOI and a venue that are not arXiv's.
    published: bool = False
    #: The changes by the answers: column → value; also `authors`.
    values: dict[str, Any] = field(default_factory=dict)
    #: Whether an answer has the paper's metadata.
    detailed: bool = False
    new: bool = True

    def fill(self, found: FoundPaper) -> None:
        """Take the values of `found` that are better than the row's."""
        self.provenance = self.provenance or found.provenance
        published = is_published(found)
        wins, loses = published and not self.published, self.published and not published
        for column in FILLED:
            value = getattr(found, column)
            if value is None or value == ():
                continue
            origin = self.origins.get(column, self.provenance)
            renewed = found.detailed and not loses and origin == found.provenance
            if column in self.filled and not wins and not renewed:
                continue
            self.values[column] = value
            self.filled.add(column)
            self.origins.pop(column, None)
            if found.provenance != self.provenance:
                self.origins[column] = found.provenance
        self.published |= published
        self.detailed |= found.detailed


def is_published(found: FoundPaper) -> bool:
    """Return whether `found` describes a published version: a DOI and a venue that are not arXiv's."""
    named = found.venue or (found.journal or {}).get("name", "")
    doi = found.ids.get("doi", _PREPRINT)
    return bool(named) and not named.lower().startswith("arxiv") and not doi.startswith(_PREPRINT)


def _filled(table: str, column: str) -> str:
    """Return SQL for the column's name, or null if the column is empty."""
    if column == "authors":
        full = f"EXISTS (SELECT FROM paper_authors AS own WHERE own.paper_id = {table}.id)"
    else:
        full = f"{table}.{column} <> '{{}}'" if column in LISTS else f"{table}.{column} IS NOT NULL"
    return f"CASE WHEN {full} THEN '{column}' END"


def _published(table: str) -> str:
    return f"""(coalesce({table}.venue, {table}.journal ->> 'name') !~* '^arxiv' AND EXISTS (
        SELECT FROM external_ids AS own
        WHERE own.paper_id = {table}.id AND own.scheme = 'doi' AND NOT starts_with(own.value, '{_PREPRINT}')
    )) IS TRUE"""


#: SQL: the values of a PaperRow up to `published`, from `papers AS paper`.
ROW = f"""paper.id, paper.provenance, paper.field_provenance,
    array_remove(ARRAY[{", ".join(_filled("paper", column) for column in FILLED)}], NULL),
    {_published("paper")}"""


def merge(cursor: psycopg.Cursor[Any], same: Sequence[Sequence[int]]) -> None:
    """Merge rows of `papers`: of each group of ascending ids, the first stays.

    Citations, ids, authors, summaries, jobs and crawls move to it.
    """
    while same:
        halves = [(ids[: (len(ids) + 1) // 2], ids[(len(ids) + 1) // 2 :]) for ids in same]
        pairs = [pair for kept, merged in halves for pair in zip(merged, kept, strict=False)]
        cursor.execute(_PAIRS, [list(column) for column in zip(*pairs, strict=True)])
        for statement in _MERGE:
            cursor.execute(statement)
        same = [kept for kept, _ in halves if len(kept) > 1]


def _better(column: str) -> str:
    """Return SQL for a column of the kept row; a published version wins."""
    if column in LISTS:
        merged, kept = f"nullif(merged.{column}, '{{}}')", f"nullif(kept.{column}, '{{}}')"
        return f"coalesce(CASE WHEN pair.wins THEN {merged} END, {kept}, {merged}, '{{}}')"
    return f"coalesce(CASE WHEN pair.wins THEN merged.{column} END, kept.{column}, merged.{column})"


def _origin(column: str) -> str:
    """Return SQL for the provider of a column of the kept row; null if it equals `provenance`."""
    merged = f"nullif(coalesce(merged.field_provenance ->> '{column}', merged.provenance), kept.provenance)"
    taken = f"pair.wins OR {_filled('kept', column)} IS NULL"
    return f"""'{column}', CASE WHEN {_filled("merged", column)} IS NOT NULL AND ({taken}) THEN {merged}
        ELSE kept.field_provenance ->> '{column}' END"""


_PAIRS = f"""
CREATE TEMP TABLE pair ON COMMIT DROP AS
SELECT merged.id AS merged, kept.id AS kept, {_published("merged")} AND NOT {_published("kept")} AS wins
FROM unnest(%s::bigint[], %s::bigint[]) AS named (merged, kept)
JOIN papers AS merged ON merged.id = named.merged JOIN papers AS kept ON kept.id = named.kept
"""  # noqa: S608  # constants alone, here and below
_TIMES = ("details_fetched_at", "references_fetched_at", "citations_fetched_at")
_MERGE: Sequence[str] = (
    "ANALYZE pair",
    f"""
    UPDATE papers AS kept SET
        {", ".join(f"{column} = {_better(column)}" for column in COLUMNS)},
        {", ".join(f"{column} = greatest(kept.{column}, merged.{column})" for column in _TIMES)},
        field_provenance = jsonb_strip_nulls(jsonb_build_object({", ".join(map(_origin, FILLED))})),
        updated_at = now()
    FROM pair JOIN papers AS merged ON merged.id = pair.merged
    WHERE kept.id = pair.kept
    """,  # noqa: S608
    """
    WITH moved AS (
        SELECT citations.* FROM pair JOIN citations ON citing_id = merged
        UNION SELECT citations.* FROM pair JOIN citations ON cited_id = merged
    )
    INSERT INTO citations (citing_id, cited_id, is_influential, intents, contexts, provenance, created_at)
    SELECT DISTINCT ON (1, 2) coalesce(citing.kept, citing_id), coalesce(cited.kept, cited_id),
        is_influential, intents, contexts, provenance, created_at
    FROM moved LEFT JOIN pair AS citing ON citing.merged = citing_id LEFT JOIN pair AS cited ON cited.merged = cited_id
    WHERE coalesce(citing.kept, citing_id) <> coalesce(cited.kept, cited_id)
    ORDER BY 1, 2, created_at
    ON CONFLICT DO NOTHING
    """,
    "UPDATE external_ids SET paper_id = kept FROM pair WHERE paper_id = merged",
    """
    DELETE FROM paper_authors AS old USING pair WHERE paper_id = kept AND wins
        AND EXISTS (SELECT FROM paper_authors WHERE paper_id = merged)
    """,
    """
    UPDATE paper_authors SET paper_id = kept FROM pair
    WHERE paper_id = merged AND NOT EXISTS (SELECT FROM paper_authors WHERE paper_id = kept)
    """,
    """
    UPDATE summaries AS old SET paper_id = kept FROM pair
    WHERE paper_id = merged AND NOT EXISTS (
        SELECT FROM summaries AS own WHERE own.paper_id = kept AND (own.kind, own.language, own.model, own.prompt_version)
            = (old.kind, old.language, old.model, old.prompt_version))
    """,
    "DELETE FROM summaries USING pair WHERE paper_id = merged",
    "UPDATE jobs SET paper_id = kept FROM pair WHERE paper_id = merged",
    """
    INSERT INTO crawl_papers AS old (crawl_id, paper_id, level)
    SELECT crawl_id, kept, level FROM crawl_papers JOIN pair ON paper_id = merged
    ON CONFLICT (crawl_id, paper_id) DO UPDATE SET level = least(old.level, EXCLUDED.level)
    """,
    """
    INSERT INTO citation_counts SELECT kept, day, citation_count FROM citation_counts JOIN pair ON paper_id = merged
    ON CONFLICT (paper_id, day) DO NOTHING
    """,
    "DELETE FROM papers USING pair WHERE id = merged",
    "DROP TABLE pair",
)
