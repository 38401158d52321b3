"""Exports the papers and citations of the network to formats of other programs, row by row.

GraphML, CSV and JSON contain all papers and citations; BibTeX contains only papers with details, as an entry without
authors and venue is useless.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import psycopg
from psycopg.rows import dict_row

from refnet.core.files import NotRegularError, explained
from refnet.network import SESSION, server_errors
from refnet.postgres.session import Target

_ROWS = 1000
_PAPERS = """
SELECT p.id, p.title, coalesce(w.names, '{}') AS authors, p.year, p.venue, p.publication_types AS types,
       coalesce(e.ids, '{}') AS ids, p.open_access_url AS url, p.reference_count, p.citation_count,
       r.position AS rank, r.pagerank, r.cited_by, p.details_fetched_at IS NOT NULL OR p.provenance = 'sample' AS detailed,
       p.provenance, p.journal, p.abstract
FROM papers p
LEFT JOIN ranks r ON r.paper_id = p.id
LEFT JOIN (SELECT paper_id, array_agg(a.name ORDER BY position) AS names
           FROM paper_authors JOIN authors a ON a.id = author_id GROUP BY paper_id) w ON w.paper_id = p.id
LEFT JOIN (SELECT paper_id, jsonb_object_agg(scheme, value ORDER BY scheme)  AS ids
           FROM (SELECT paper_id, scheme, min(value) AS value FROM external_ids GROUP BY paper_id, scheme) i
           GROUP BY paper_id) e ON e.paper_id = p.id
ORDER BY p.id
"""
_CITATIONS = """
SELECT citing_id AS citing, cited_id AS cited, is_influential AS influential, intents, provenance
FROM citations ORDER BY citing_id, cited_id
"""
#: Column of a paper in GraphML and CSV → its type in GraphML.
_COLUMNS = {
    "title": "string", "authors": "string", "year": "int", "venue": "string", "types": "string", "doi": "string",
    "arxiv": "string", "url": "string", "reference_count": "int", "citation_count": "int", "rank": "int",
    "pagerank": "double", "cited_by": "int", "detailed": "boolean", "provenance": "string",
}  # fmt: skip
_EDGE_COLUMNS = {"influential": "boolean", "intents": "string", "provenance": "string"}
#: Characters that XML 1.0 cannot contain.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Beginnings of text that a spreadsheet takes for a formula.
_FORMULA = (*"=+-@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
#: Type of publication, BibTeX entry, field of the venue; the first type that a paper has counts.
_ENTRIES = (
    ("Book", "book", "publisher"),
    ("BookSection", "incollection", "booktitle"),
    ("Conference", "inproceedings", "booktitle"),
    ("JournalArticle", "article", "journal"),
    ("Review", "article", "journal"),
)

Row = Mapping[str, Any]
#: Parts of a text, in order.
Texts = Iterator[str]


class Rows:
    """The rows of one snapshot: papers, then citations; each can be read once."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def papers(self) -> Iterator[Row]:
        for row in self._read("papers", _PAPERS):
            yield row | {"doi": row["ids"].get("doi"), "arxiv": row["ids"].get("arxiv")}

    def citations(self) -> Iterator[Row]:
        return self._read("citations", _CITATIONS)

    def _read(self, name: str, query: str) -> Iterator[dict[str, Any]]:
        with self._connection.cursor(name, row_factory=dict_row) as cursor:
            cursor.itersize = _ROWS
            yield from cursor.execute(query)


def export(target: Target, name: str, write: Callable[[str, Texts], None]) -> None:
    """Write the network of `target` in the format `name`, a key of FORMATS.

    write: called with each file's name and text, in parts. RefnetError if the database cannot be read.
    """
    with (
        server_errors(target, "cannot be read", "Fix the cause and retry."),
        target.connect(SESSION, autocommit=False) as connection,
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL cursor_tuple_fraction = 1; SET LOCAL jit = off")
        # Before the first byte: printed output cannot be taken back.
        connection.execute(f"SELECT FROM ({_PAPERS}) papers, ({_CITATIONS}) citations LIMIT 0")
        for file, texts in FORMATS[name](Rows(connection)).items():
            write(file, texts)


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


def _graphml(rows: Rows) -> dict[str, Texts]:
    return {"network.graphml": _graphml_texts(rows)}


def _graphml_texts(rows: Rows) -> Texts:
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


def _csv(rows: Rows) -> dict[str, Texts]:
    return {
        "papers.csv": _table(["id", *_COLUMNS], rows.papers()),
        "citations.csv": _table(["citing", "cited", *_EDGE_COLUMNS], rows.citations()),
    }


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


def _json(rows: Rows) -> dict[str, Texts]:
    return {"network.json": _json_texts(rows)}


def _json_texts(rows: Rows) -> Texts:
    """Yield one JSON document with a line for each paper and each citation."""
    yield "{"
    for before, key, found in (("", "papers", rows.papers()), (",", "citations", rows.citations())):
        yield f'{before}\n"{key}": ['
        for number, row in enumerate(found):
            left = {name: value for name, value in row.items() if name not in {"doi", "arxiv"}}
            yield f"{',' if number else ''}\n{json.dumps(left, ensure_ascii=False)}"
        yield "\n]"
    yield "\n}\n"


def _bibtex(rows: Rows) -> dict[str, Texts]:
    return {"network.bib": (_entry(row) for row in rows.papers() if row["detailed"])}


def _entry(row: Row) -> str:
    kind, place = next(
        ((kind, place) for name, kind, place in _ENTRIES if name in row["types"]), ("misc", "howpublished")
    )
    journal = row["journal"] or {}
    fields = {
        "title": _protected(row["title"] or ""),
        "author": " and ".join(map(_author, row["authors"])),
        "year": _text(row["year"]),
        place: _latex(row["venue"] or ""),
        "volume": _latex(_text(journal.get("volume"))),
        "pages": _latex(_text(journal.get("pages"))).replace("–", "--"),
        "doi": _latex(row["doi"] or ""),
        "eprint": _latex(row["arxiv"] or ""),
        "archiveprefix": "arXiv" if row["arxiv"] else "",
        "url": _latex(row["url"] or ""),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{kind}{{{_key(row)},\n{lines}}}\n\n"


def _key(row: Row) -> str:
    """Return a key such as `Lovelace1843-7`: unique by the row id, so new papers change no other key."""
    words = (row["authors"] or [""])[0].split() or [""]
    plain = unicodedata.normalize("NFKD", words[-1]).encode("ascii", "ignore").decode()
    return f"{re.sub('[^A-Za-z]', '', plain) or 'paper'}{row['year'] or ''}-{row['id']}"


def _latex(text: str) -> str:
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return "".join(_LATEX.get(one, one) for one in text)


def _protected(title: str) -> str:
    """Protect words with inner capitals in a title, as a style may write titles in lower case."""
    return " ".join(
        f"{{{_latex(word)}}}" if re.search(r"\w[A-Z]", word) else _latex(word) for word in title.split()
    )


def _author(name: str) -> str:
    """Return a name, in braces if BibTeX would take it for several names."""
    escaped = _latex(name)
    return f"{{{escaped}}}" if re.search(r",|\b(?:and|others)\b", name, re.IGNORECASE) else escaped


#: Format → function that returns file name → text, in parts; consume them in order.
FORMATS: Mapping[str, Callable[[Rows], dict[str, Texts]]] = {
    "graphml": _graphml,
    "csv": _csv,
    "bibtex": _bibtex,
    "json": _json,
}
