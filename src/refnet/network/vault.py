"""Writes the network into an Obsidian vault: one note per paper, linked to the notes of its references.

An existing note is found by the id in its frontmatter, wherever its reader moved it, and is never renamed; its
reader's text stays. An unchanged note is not written.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from refnet.errors import RefnetError
from refnet.files import explain
from refnet.network import SESSION, server_errors
from refnet.network.note import NotOursError, Paper, Place, id_in, name_of, render
from refnet.postgres.session import Target
from refnet.recovery.model.source import Progress, silent

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
    """Counts of notes."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    #: The notes that were not touched, and why.
    skipped: list[str] = field(default_factory=list)
    #: The notes whose papers are not in the database; they stay.
    gone: list[str] = field(default_factory=list)


@dataclass
class _Vault:
    folder: Path
    #: The paths of existing notes in the vault, by paper.
    notes: dict[int, Path]
    places: dict[int, Place]
    done: Written
    plan: bool


def write_vault(target: Target, vault: Path, progress: Progress = silent, *, plan: bool = False) -> Written:
    """Write or renew the note of every paper of `target`; new ones go into the folder `papers` of `vault`.

    plan: count and write nothing. RefnetError if the database or the vault cannot be used.
    """
    try:
        with server_errors(target, "cannot be read", "Fix the cause and retry."):
            return _write_vault(target, vault, progress, plan=plan)
    except OSError as error:
        raise explain(error, Path(error.filename or vault)) from error


def _write_vault(target: Target, folder: Path, progress: Progress, *, plan: bool) -> Written:
    vault = _Vault(folder, {}, {}, Written(), plan)
    for number, path in _notes(folder):
        if vault.notes.setdefault(number, path) != path:
            vault.done.skipped.append(f"{path}: paper {number} has another note, {vault.notes[number]}")
    with target.connect(SESSION, autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            vault.places = _places(connection, vault.notes)
        except psycopg.errors.UndefinedTable:
            raise RefnetError(
                f"the database {target.name} has no network", "Create its tables: `refnet network migrate`."
            ) from None
        vault.done.gone = sorted(str(path) for n, path in vault.notes.items() if n not in vault.places)
        if not plan:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for count, paper in enumerate(_papers(connection), 1):
            _write(vault, paper)
            if not count & 0xFF:
                progress("notes", count, len(vault.places))
    return vault.done


def _notes(vault: Path) -> Iterator[tuple[int, Path]]:
    """Yield the id and the path in the vault of every note of a paper, hidden folders left out."""
    for parent, folders, names in os.walk(vault):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(name for name in names if name.endswith(".md") and not name.startswith(".")):
            path = Path(parent, name)
            if (number := id_in(_head(path))) is not None:
                yield number, path.relative_to(vault)


def _head(path: Path) -> str:
    """Return the beginning of a note, which contains its frontmatter."""
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace", newline="") as note:
        return note.read(1 << 16).replace("\r\n", "\n")


def _places(connection: psycopg.Connection, notes: dict[int, Path]) -> dict[int, Place]:
    places = {}
    with connection.cursor("names") as cursor:
        cursor.itersize = 5000
        for number, title, year, author, ids in cursor.execute(_NAMES):
            paper = Paper(number, title, (author,) if author else (), year, ids=ids or {})
            path = str(notes[number].with_suffix("")) if number in notes else f"{FOLDER}/{name_of(paper)}"
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


def _write(vault: _Vault, paper: Paper) -> None:
    path, done = vault.folder / f"{vault.places[paper.id].path}.md", vault.done
    before = None
    try:
        if paper.id in vault.notes:
            before = path.read_bytes().decode()
        elif os.path.lexists(path):
            raise NotOursError(f"it has the name of the note of paper {paper.id}")  # noqa: TRY301
        text = _rendered(paper, vault.places, before)
    except (NotOursError, UnicodeDecodeError) as error:
        done.skipped.append(f"{path.relative_to(vault.folder)}: {error}")
        return
    if text == before:
        done.unchanged += 1
        return
    done.new += before is None
    done.changed += before is not None
    if not vault.plan:
        _replace(path, text)


def _rendered(paper: Paper, places: dict[int, Place], before: str | None) -> str:
    """Render the note with its existing line ends."""
    if before is None or "\r\n" not in before:
        return render(paper, places, before)
    return render(paper, places, before.replace("\r\n", "\n")).replace("\n", "\r\n")


def _replace(path: Path, text: str) -> None:
    """Replace the note atomically and keep its mode."""
    part = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            if os.path.lexists(path):
                os.fchmod(file.fileno(), path.lstat().st_mode & 0o777)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
