"""Imports recorded answers of Semantic Scholar: a paper with its references and citations, or a list of such papers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explain
from refnet.network import SESSION, server_errors
from refnet.network.papers import AnswerError
from refnet.network.scholar_answers import PROVIDER, Linked, linked
from refnet.network.writing import lock, retried, write_edges, write_papers
from refnet.postgres.session import Target

#: In bytes; a paper with 10,000 citations and all their metadata takes about half.
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Imported:
    """The counts of an import."""

    #: The number of papers in the file, without those that are only references or citations.
    papers: int
    #: The number of references and citations in the file.
    citations: int
    new_papers: int
    new_citations: int
    #: The number of values of a wrong type, which were left out.
    dropped: int


def read(file: Path) -> list[Linked]:
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


def import_scholar(target: Target, papers: list[Linked], progress: Progress = silent) -> Imported:
    """Import `papers` into the migrated database of `target`, all or nothing; existing papers are updated."""

    def work(cursor: psycopg.Cursor[Any]) -> Imported:
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
        return Imported(len(papers), read, made, new, sum(one.dropped for one in papers))

    with (
        server_errors(target, "rejects the rows", "Nothing was imported. Fix the cause and retry."),
        target.connect(SESSION) as connection,
    ):
        return retried(connection, work)
