"""Writes the network into an Obsidian vault: one note a paper, every link to a note that is there.

A note that is there is found by the id in its frontmatter, wherever its reader moved it, and is never renamed;
what its reader wrote survives. A note that would not change is not written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from refnet.errors import RefnetError
from refnet.network import SESSION, Progress, silent
from refnet.network.note import NotOursError, Paper, Place, id_in, name_of, render
from refnet.postgres.session import Target

FOLDER = "papers"
_TEMPORARY = ".refnet-"
_ROWS = 500

_NAMES = """
SELECT p.id, p.title, p.year,
       (SELECT a.name FROM paper_authors w JOIN authors a ON a.id = w.author_id
        WHERE w.paper_id = p.id ORDER BY w.position LIMIT 1),
       (SELECT jsonb_object_agg(scheme, value) FROM (
           SELECT scheme, min(value) AS value FROM external_ids e WHERE e.paper_id = p.id GROUP BY scheme) ids)
FROM papers p ORDER BY p.id
"""

_PAPERS = """
SELECT p.id, p.title, p.year, p.venue, p.abstract, p.citation_count, p.provenance,
       ARRAY(SELECT a.name FROM paper_authors w JOIN authors a ON a.id = w.author_id
             WHERE w.paper_id = p.id ORDER BY w.position),
       (SELECT jsonb_object_agg(scheme, value) FROM (
           SELECT scheme, min(value) AS value FROM external_ids e WHERE e.paper_id = p.id GROUP BY scheme) ids),
       ARRAY(SELECT cited_id FROM citations c WHERE c.citing_id = p.id ORDER BY cited_id),
       (SELECT content FROM summaries s WHERE s.paper_id = p.id ORDER BY created_at DESC, s.id DESC LIMIT 1)
FROM papers p ORDER BY p.id
"""


@dataclass
class Written:
    """What was done, in notes. `skipped`: those that were left alone, and why. `gone`: notes of papers that the
    database does not have (any more); they stay.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def write_vault(target: Target, vault: Path, progress: Progress = silent, *, plan: bool = False) -> Written:
    """Write a note for every paper of `target` into the folder `papers` of `vault`, or renew the one that is there.

    plan: count what would be done, and write nothing. RefnetError where the database or the vault refuses.
    """
    try:
        return _write_vault(target, vault, progress, plan=plan)
    except psycopg.errors.UndefinedTable:
        raise RefnetError(
            f"the database {target.name} holds no network", "Make its tables: `refnet network migrate`."
        ) from None
    except psycopg.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise RefnetError(
            f"the database {target.name} cannot be read: {said[0]}", "Mend that, and run it again."
        ) from None
    except OSError as error:
        raise RefnetError(
            f"{error.filename or vault}: {error.strerror}",
            "Mend that, and run it again; every note is whole, the old one or the new one.",
        ) from None


def _write_vault(target: Target, vault: Path, progress: Progress, *, plan: bool) -> Written:
    done = Written()
    there: dict[int, Path] = {}
    for number, path in _notes(vault):
        if there.setdefault(number, path) != path:
            done.skipped.append(f"{path}: paper {number} has another note, {there[number]}")
    with target.connect(SESSION, autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        places = _places(connection, there)
        done.gone = sorted(str(path) for number, path in there.items() if number not in places)
        if not plan:
            (vault / FOLDER).mkdir(parents=True, exist_ok=True)
        for count, paper in enumerate(_papers(connection), 1):
            _write(vault, paper, places, there, done, plan=plan)
            if not count & 0xFF:
                progress("notes", count, len(places))
    return done


def _notes(vault: Path) -> Iterator[tuple[int, Path]]:
    """The id and the path (seen from the vault) of every note of a paper, hidden folders left out."""
    for parent, folders, names in os.walk(vault):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(name for name in names if name.endswith(".md") and not name.startswith(".")):
            path = Path(parent, name)
            if (number := id_in(_head(path))) is not None:
                yield number, path.relative_to(vault)


def _head(path: Path) -> str:
    """Enough of a note to hold its frontmatter."""
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace", newline="") as note:
        return note.read(1 << 16).replace("\r\n", "\n")


def _places(connection: psycopg.Connection, there: dict[int, Path]) -> dict[int, Place]:
    places = {}
    with connection.cursor("names") as cursor:
        cursor.itersize = 5000
        for number, title, year, author, ids in cursor.execute(_NAMES):
            paper = Paper(number, title, (author,) if author else (), year, ids=ids or {})
            path = str(there[number].with_suffix("")) if number in there else f"{FOLDER}/{name_of(paper)}"
            places[number] = Place(path, paper.heading)
    return places


def _papers(connection: psycopg.Connection) -> Iterator[Paper]:
    with connection.cursor("papers") as cursor:
        cursor.itersize = _ROWS
        for row in cursor.execute(_PAPERS):
            number, title, year, venue, abstract, cited, provenance, authors, ids, references, summary = row
            yield Paper(
                number, title, tuple(authors), year, venue, abstract, summary, cited, provenance, ids or {},
                tuple(references),
            )  # fmt: skip


def _write(
    vault: Path, paper: Paper, places: dict[int, Place], there: dict[int, Path], done: Written, *, plan: bool
) -> None:
    path = vault / f"{places[paper.id].path}.md"
    before = None
    try:
        if paper.id in there:
            before = path.read_bytes().decode()
        elif os.path.lexists(path):
            raise NotOursError(f"it stands in the way of the note of paper {paper.id}")  # noqa: TRY301
        text = _rendered(paper, places, before)
    except (NotOursError, UnicodeDecodeError) as error:
        done.skipped.append(f"{path.relative_to(vault)}: {error}")
        return
    if text == before:
        done.unchanged += 1
        return
    done.new += before is None
    done.changed += before is not None
    if not plan:
        _replace(path, text)


def _rendered(paper: Paper, places: dict[int, Place], before: str | None) -> str:
    """The note, with the line ends that it has."""
    if before is None or "\r\n" not in before:
        return render(paper, places, before)
    return render(paper, places, before.replace("\r\n", "\n")).replace("\n", "\r\n")


def _replace(path: Path, text: str) -> None:
    """Write the note whole or not at all, with the mode that it has."""
    part = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            if os.path.lexists(path):
                os.fchmod(file.fileno(), path.lstat().st_mode & 0o777)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
