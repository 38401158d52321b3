"""Imports citations from a file: Cora's `cora.cites`, or recorded answers of Semantic Scholar.

`cora.cites` has one citation per line: cited, tab, citing. An answer is a paper with its references and citations, or a
list of such papers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psycopg

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explain
from refnet.core.formatting import plural
from refnet.network import SESSION, server_errors
from refnet.network.papers import AnswerError
from refnet.network.scholar_answers import PROVIDER, Linked, linked
from refnet.network.writing import lock, retried, write_edges, write_papers
from refnet.postgres.session import Target

#: The longest line, in bytes, far above any id; bounds the memory for a file without line ends.
_LINE_LIMIT = 4096
_PROGRESS_LINES = 10_000
#: The key of the advisory lock that allows one import at a time: "cora" in ASCII.
_LOCK = 0x636F7261
#: The largest file of papers, in bytes; one with 10,000 citations and all their metadata takes about half.
_LARGEST = 64 << 20


@dataclass(frozen=True)
class ImportedCora:
    """The counts of an import of `cora.cites`."""

    #: The number of lines in the file.
    citations: int
    new_papers: int
    new_citations: int


def import_cora(target: Target, file: Path, progress: Progress = silent) -> ImportedCora:
    """Import `file` into the migrated database of `target`; existing rows stay unchanged.

    All or nothing: a malformed line is a RefnetError with its number, and nothing is imported.
    """
    try:
        with (
            file.open("rb") as lines,
            server_errors(target, "rejects the rows", "Nothing was imported. Fix the cause and retry."),
        ):
            size = file.stat().st_size
            return _load(target, pairs(lines, str(file), lambda done: progress("citations", done, size)))
    except OSError as error:
        raise explain(error, file) from error


def _load(target: Target, cites: Iterable[tuple[str, str]]) -> ImportedCora:
    with target.connect(SESSION, autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute("CREATE TEMP TABLE cites (cited text, citing text) ON COMMIT DROP")
        with cursor.copy("COPY cites FROM STDIN") as copy:
            for pair in cites:
                copy.write_row(pair)
        citations = cursor.rowcount
        cursor.execute("ANALYZE cites")
        new_papers = cursor.execute(_NEW_PAPERS).rowcount
        new_citations = cursor.execute(_NEW_CITATIONS).rowcount
    return ImportedCora(citations, new_papers, new_citations)


def pairs(
    lines: BinaryIO, name: str, progress: Callable[[int], None] = lambda _done: None
) -> Iterator[tuple[str, str]]:
    """Yield (cited, citing) of each line; RefnetError at a malformed one. `progress` gets the bytes read so far."""
    number = 0
    while line := lines.readline(_LINE_LIMIT):
        number += 1
        if number % _PROGRESS_LINES == 0:
            progress(lines.tell())
        try:
            yield _pair(line)
        except ValueError as fault:
            raise RefnetError(
                f"{name}, line {number}: {fault}",
                "A line is two ids separated by a tab: cited, citing. Nothing was imported.",
            ) from None


def _pair(line: bytes) -> tuple[str, str]:
    if len(line) >= _LINE_LIMIT:
        raise ValueError("too long")
    try:
        fields = line.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if len(fields) != 2:
        raise ValueError(f"{plural(len(fields), 'field')} instead of two")
    cited, citing = fields
    if not all(one.isprintable() and " " not in one and 1 <= len(one) <= 250 for one in fields):
        raise ValueError("not an id of 1 to 250 visible characters")
    if cited == citing:
        raise ValueError("a paper that cites itself")
    return cited, citing


_NEW_PAPERS = """
WITH unknown AS (
    SELECT name FROM (SELECT cited FROM cites UNION SELECT citing FROM cites) AS named (name)
    WHERE NOT EXISTS (SELECT FROM external_ids WHERE scheme = 'cora' AND value = name)
    ORDER BY name
), numbered AS MATERIALIZED (
    SELECT name, nextval(pg_get_serial_sequence('papers', 'id')) AS id FROM unknown
), made AS (
    INSERT INTO papers (id, provenance) OVERRIDING SYSTEM VALUE SELECT id, 'cora' FROM numbered
)
INSERT INTO external_ids (scheme, value, paper_id) SELECT 'cora', name, id FROM numbered
"""

_NEW_CITATIONS = """
INSERT INTO citations (citing_id, cited_id, provenance)
SELECT DISTINCT citing.paper_id, cited.paper_id, 'cora'
FROM cites
JOIN external_ids AS citing ON citing.scheme = 'cora' AND citing.value = cites.citing
JOIN external_ids AS cited ON cited.scheme = 'cora' AND cited.value = cites.cited
WHERE citing.paper_id <> cited.paper_id
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class ImportedScholar:
    """The counts of an import of recorded answers."""

    #: The number of papers in the file, without those that are only references or citations.
    papers: int
    #: The number of references and citations in the file.
    citations: int
    new_papers: int
    new_citations: int
    #: The number of values of a wrong type, which were left out.
    dropped: int


def read_scholar(file: Path) -> list[Linked]:
    """Read the papers of `file`; null entries, for unknown ids, are left out.

    RefnetError if the file has another content or is larger than 64 MiB.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_LARGEST + 1)
    except OSError as error:
        raise explain(error, file) from error
    try:
        answer = checked.parsed(data, _LARGEST)
    except ValueError as fault:
        raise _refused(f"{file}: {fault}") from None
    entries = answer if type(answer) is list else [answer]
    papers = (_linked(f"{file}, entry {number}", entry) for number, entry in enumerate(entries, 1))
    return [one for one in papers if one]


def _linked(name: str, entry: object) -> Linked | None:
    try:
        return linked(entry)
    except AnswerError as fault:
        raise _refused(f"{name}: {fault}") from None


def _refused(what: str) -> RefnetError:
    hint = "Name a recorded paper of Semantic Scholar, or a list of papers. Nothing was imported."
    return RefnetError(what, hint)


def import_scholar(target: Target, papers: list[Linked], progress: Progress = silent) -> ImportedScholar:
    """Import `papers` into the migrated database of `target`, all or nothing; existing papers are updated."""

    def work(cursor: psycopg.Cursor[Any]) -> ImportedScholar:
        lock(cursor)
        last = cursor.execute("SELECT coalesce(max(id), 0) FROM papers").fetchone()
        new = 0
        for number, one in enumerate(papers, 1):
            (paper,) = write_papers(cursor, [one.paper])
            new += write_edges(cursor, paper, "references", one.references, PROVIDER)
            (paper,) = write_papers(cursor, [one.paper])  # a reference may have merged the paper
            new += write_edges(cursor, paper, "citations", one.citations, PROVIDER)
            progress(Counted("papers", "papers"), number, len(papers))
        ((made,),) = cursor.execute("SELECT count(*) FROM papers WHERE id > %s", last).fetchall()
        read = sum(len(one.references) + len(one.citations) for one in papers)
        return ImportedScholar(len(papers), read, made, new, sum(one.dropped for one in papers))

    with (
        server_errors(target, "rejects the rows", "Nothing was imported. Fix the cause and retry."),
        target.connect(SESSION) as connection,
    ):
        return retried(connection, work)
