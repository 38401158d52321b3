"""Exports the papers and citations of the network to formats of other programs, row by row.

GraphML, CSV and JSON contain all papers and citations; BibTeX, RIS and CSL-JSON only papers with details, as an entry
without authors and venue is useless. A selection leaves the citations between its papers.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import psycopg
from psycopg.rows import dict_row

from refnet.core.files import NotRegularError, explained
from refnet.network import SESSION, server_errors
from refnet.network.reference_formats import Row, bibtex, citation_keys, csl, ris
from refnet.network.search import any_field
from refnet.postgres.session import Target

_ROWS = 1000
_PAPERS = """
SELECT p.id, p.title, coalesce(w.names, '{}') AS authors, p.year, p.venue, p.publication_types AS types,
       coalesce(e.ids, '{}') AS ids, p.open_access_url AS url, p.reference_count, p.citation_count,
       r.position AS rank, r.pagerank, r.cited_by, p.details_fetched_at IS NOT NULL OR p.provenance = 'sample' AS detailed,
       p.provenance, p.journal, p.abstract, p.fields_of_study, to_char(p.published_on, 'YYYY-MM-DD') AS published_on,
       coalesce(w.people, '[]') AS people, concat_ws(' ', w.names[1], p.year) AS label
FROM papers p
LEFT JOIN ranks r ON r.paper_id = p.id
LEFT JOIN (SELECT paper_id, array_agg(a.name ORDER BY position) AS names, jsonb_agg(jsonb_strip_nulls(
                  jsonb_build_object('name', a.name, 'orcid', a.orcid, 'semantic_scholar', a.semantic_scholar_id)) ORDER BY position) AS people
           FROM paper_authors JOIN authors a ON a.id = author_id GROUP BY paper_id) w ON w.paper_id = p.id
LEFT JOIN (SELECT paper_id, jsonb_object_agg(scheme, value ORDER BY scheme)  AS ids
           FROM (SELECT paper_id, scheme, min(value) AS value FROM external_ids GROUP BY paper_id, scheme) i
           GROUP BY paper_id) e ON e.paper_id = p.id
"""
#: SQL: `_PAPERS` in the order of given row ids.
_CHOSEN = f"{_PAPERS} JOIN unnest(%s::bigint[]) WITH ORDINALITY AS chosen (id, nth) ON chosen.id = p.id ORDER BY nth"
_CITATIONS = """
SELECT citing_id AS citing, cited_id AS cited, is_influential AS influential, intents, provenance,
       ARRAY(SELECT one ->> 'context' FROM jsonb_array_elements(contexts) AS one WHERE one ->> 'context' <> '') AS contexts
FROM citations WHERE %(all)s OR (citing_id = ANY (%(ids)s) AND cited_id = ANY (%(ids)s))
ORDER BY citing_id, cited_id
"""
#: SQL: what makes the key of each paper with details. Of its ids the CorpusId counts, which digits sort first.
_KEYED = """
SELECT p.id, a.name, p.year, p.title, coalesce(e.identity, p.title_key, '')
FROM papers p
LEFT JOIN paper_authors w ON w.paper_id = p.id AND w.position = 1
LEFT JOIN authors a ON a.id = w.author_id
LEFT JOIN (SELECT paper_id, min(CASE scheme WHEN 'corpus_id' THEN lpad(value, 20, '0')
                                ELSE scheme || ' ' || value END COLLATE "C") AS identity
           FROM external_ids GROUP BY paper_id) e ON e.paper_id = p.id
WHERE p.details_fetched_at IS NOT NULL OR p.provenance = 'sample'
"""
_SELECTED = """
SELECT p.id FROM papers p LEFT JOIN ranks r ON r.paper_id = p.id
WHERE (p.details_fetched_at IS NOT NULL OR p.provenance = 'sample') AND (%(among)s::bigint[] IS NULL OR p.id = ANY (%(among)s))
  AND {found}
  AND (%(topic)s = '' OR EXISTS (SELECT FROM unnest(p.fields_of_study) AS topic WHERE lower(topic) = lower(%(topic)s)))
ORDER BY r.position, p.citation_count DESC NULLS LAST, p.id LIMIT %(top)s
"""
#: Column of a paper in GraphML and CSV → its type in GraphML.
_COLUMNS = {
    "label": "string", "title": "string", "authors": "string", "year": "int", "venue": "string", "types": "string", "fields_of_study": "string", "doi": "string",
    "arxiv": "string", "url": "string", "reference_count": "int", "citation_count": "int", "rank": "int",
    "pagerank": "double", "cited_by": "int", "detailed": "boolean", "provenance": "string",
}  # fmt: skip
_EDGE_COLUMNS = {"influential": "boolean", "intents": "string", "contexts": "string", "provenance": "string"}
#: Characters that XML 1.0 cannot contain.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Beginnings of text that a spreadsheet takes for a formula.
_FORMULA = (*"=+-@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
#: Parts of a text, in order.
Texts = Iterator[str]


@dataclass(frozen=True)
class Selection:
    """Which papers with details are exported: all, if nothing is given."""

    #: See `search.any_field`.
    search: str = ""
    #: The best papers by rank, at most; None: all.
    top: int | None = None
    #: Finds row ids in the database: only these papers; None: any.
    among: Callable[[psycopg.Connection], list[int]] | None = None
    #: A field of study, in upper or lower case.
    topic: str = ""

    def papers(self, connection: psycopg.Connection) -> list[int] | None:
        """Return the row ids of the papers, best first; None: all of the network."""
        if self == Selection():
            return None
        among = self.among(connection) if self.among else None
        query, values = any_field(self.search) if self.search else ("", {})
        values |= {"top": self.top, "among": among, "topic": self.topic}
        selected = _SELECTED.format(found=f"p.id IN ({query})" if query else "true")
        found = connection.execute(selected.encode(), values).fetchall()
        return [number for (number,) in found]


_ALL = Selection()


class Rows:
    """The rows of one snapshot: papers, then citations; each can be read once.

    chosen: row ids of the papers; None: all.
    """

    def __init__(self, connection: psycopg.Connection, chosen: list[int] | None = None) -> None:
        self._connection = connection
        self._chosen = chosen

    def papers(self) -> Iterator[Row]:
        return self._papers(self._chosen)

    def references(self) -> Iterator[tuple[str, Row]]:
        """Yield the key and the row of each paper with details, sorted by key."""
        keys = citation_keys(self._connection.execute(_KEYED))
        chosen = keys.keys() if self._chosen is None else keys.keys() & {*self._chosen}
        for row in self._papers(sorted(chosen, key=keys.__getitem__)):
            yield keys[row["id"]], row

    def citations(self) -> Iterator[Row]:
        return self._read("citations", _CITATIONS, {"all": self._chosen is None, "ids": self._chosen or []})

    def _papers(self, chosen: list[int] | None) -> Iterator[Row]:
        query = f"{_PAPERS} ORDER BY p.id" if chosen is None else _CHOSEN
        for row in self._read("papers", query, None if chosen is None else [chosen]):
            yield row | {"doi": row["ids"].get("doi"), "arxiv": row["ids"].get("arxiv")}

    def _read(self, name: str, query: str, values: Any) -> Iterator[dict[str, Any]]:
        with self._connection.cursor(name, row_factory=dict_row) as cursor:
            cursor.itersize = _ROWS
            yield from cursor.execute(query, values)


def export(
    target: Target, name: str, write: Callable[[str, Texts], None], selection: Selection = _ALL
) -> None:
    """Write the papers of `selection` in the network of `target` in the format `name`, a key of FORMATS.

    write: called with each file's name and text, in parts. RefnetError if the database cannot be read.
    """
    with (
        server_errors(target, "cannot be read", "Fix the cause and retry."),
        target.connect(SESSION, autocommit=False) as connection,
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL cursor_tuple_fraction = 1; SET LOCAL jit = off")
        # Before the first byte: printed output cannot be taken back.
        connection.execute(
            f"SELECT FROM ({_PAPERS}) papers, ({_CITATIONS}) citations LIMIT 0", {"all": True, "ids": []}
        )
        rows = Rows(connection, selection.papers(connection))
        for file, texts in FORMATS[name].items():
            write(file, texts(rows))


def write_file(path: Path, texts: Texts) -> None:
    """Write or replace the file `path`; RefnetError if that fails, and `path` is unchanged."""
    part = path.with_name(f".refnet-{secrets.token_hex(8)}.part")
    with explained(path):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise NotRegularError(path)
        try:
            with part.open("x", encoding="utf-8", newline="") as file:
                file.writelines(texts)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _graphml(rows: Rows) -> Texts:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
    for owner, columns in (("node", _COLUMNS), ("edge", _EDGE_COLUMNS)):
        for name, kind in columns.items():
            yield f' <key id="{owner}_{name}" for="{owner}" attr.name="{name}" attr.type="{kind}"/>\n'
    yield ' <graph id="refnet" edgedefault="directed">\n'
    for row in rows.papers():
        yield f'  <node id="{row["id"]}">{_data("node", _COLUMNS, row)}</node>\n'
    for row in rows.citations():
        ends = f'source="{row["citing"]}" target="{row["cited"]}"'
        yield f"  <edge {ends}>{_data('edge', _EDGE_COLUMNS, row)}</edge>\n"
    yield " </graph>\n</graphml>\n"


def _data(owner: str, columns: Iterable[str], row: Row) -> str:
    found = ((name, _text(row[name])) for name in columns)
    return "".join(
        f"<data key={quoteattr(f'{owner}_{name}')}>{escape(_NOT_XML.sub('', text))}</data>"
        for name, text in found
        if text
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "; ".join(value)
    return "" if value is None else str(value)


def _table(columns: list[str], rows: Iterable[Row]) -> Texts:
    line = io.StringIO()
    writer = csv.writer(line)
    for values in ([columns], ([_cell(row[column]) for column in columns] for row in rows)):
        for one in values:
            writer.writerow(one)
            yield line.getvalue()
            line.seek(0)
            line.truncate()


def _cell(value: Any) -> str:
    text = _text(value).replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, (int, float)) else text


def _json(rows: Rows) -> Texts:
    """Yield one JSON document with a line for each paper and each citation."""
    yield "{"
    for before, key, found in (("", "papers", rows.papers()), (",", "citations", rows.citations())):
        yield f'{before}\n"{key}": ['
        for number, row in enumerate(found):
            left = {name: value for name, value in row.items() if name not in {"doi", "arxiv"}}
            yield f"{',' if number else ''}\n{json.dumps(left, ensure_ascii=False)}"
        yield "\n]"
    yield "\n}\n"


def _csl(rows: Rows) -> Texts:
    yield "["
    for number, entry in enumerate(rows.references()):
        yield f"{',' if number else ''}\n{csl(*entry)}"
    yield "\n]\n"


#: Format → file name → its text, in parts; in this order.
FORMATS: Mapping[str, Mapping[str, Callable[[Rows], Texts]]] = {
    "graphml": {"network.graphml": _graphml},
    "csv": {
        "papers.csv": lambda rows: _table(["id", *_COLUMNS], rows.papers()),
        "citations.csv": lambda rows: _table(["citing", "cited", *_EDGE_COLUMNS], rows.citations()),
    },
    "bibtex": {"network.bib": lambda rows: starmap(bibtex, rows.references())},
    "ris": {"network.ris": lambda rows: starmap(ris, rows.references())},
    "csl-json": {"network.csl.json": _csl},
    "json": {"network.json": _json},
}
