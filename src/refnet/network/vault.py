"""Writes the network into an Obsidian vault: a note per paper, author and topic, an index note and a canvas per seed.

An existing note is found by the external ids in its frontmatter, wherever the user moved it, and is never renamed; the
user's text stays. Unchanged notes are not written. A deleted note is written again.

The digests of rows and notes at the end of a run save time in the next one: it renders only notes whose row or bytes
have changed. If their file is missing, damaged, or of another version of RefNet, every note is rendered and compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from refnet.catalog.artifact import Counted, Progress, silent
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.network import SESSION, frontmatter, server_errors, vault_files, vault_rows, vault_views
from refnet.network import note as note_module
from refnet.network.frontmatter import Id, NoteMark, NotOursError, canvas_ids
from refnet.network.layout import Links
from refnet.network.news import news
from refnet.network.note import Paper, PaperLink, name_of, render
from refnet.network.reading import to_read
from refnet.network.vault_files import Note
from refnet.network.vault_names import NamedNote, named_notes
from refnet.network.vault_rows import Matches, NotedPapers, matches
from refnet.network.vault_views import Neighbours, SeedIndex
from refnet.postgres.session import Target

FOLDER, INDEX, CANVAS, SETTINGS = "papers", "index", "canvas", ".obsidian"
BASE, GRAPH = "papers.base", f"{SETTINGS}/graph.json"
#: The largest file of digests, in bytes.
_LIMIT = 256 << 20
#: The number of seeds if there was no crawl, and the lengths of an index note's lists.
_SEEDS, _BEST, _MISSING = 10, 15, 15


@dataclass
class WrittenVault:
    """The result of a run: counts of the notes of papers, and other files."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    #: The other new or changed files: index notes, canvases, the base, the colours of the graph.
    views: list[str] = field(default_factory=list)
    #: The files that were skipped, with the reason.
    skipped: list[str] = field(default_factory=list)
    #: The notes of papers, authors and topics that are not in the database; they stay.
    gone: list[str] = field(default_factory=list)


class Cache:
    """The digests of one vault, in a file below `folder`; None: nothing is stored."""

    def __init__(self, folder: Path | None, vault: Path) -> None:
        self._file = folder / f"notes-{vault_files.digest(bytes(vault.absolute()))}.json" if folder else None
        self._found = _read(self._file) if self._file else {}
        self._seen: dict[str, list[str]] = {}
        self._links = ""

    def begin(self, places: Iterable[tuple[int | Id, PaperLink]]) -> None:
        """Include the input of all links in the digests: the place of every paper, author and topic."""
        code = [Path(module.__file__ or "").read_bytes() for module in (note_module, frontmatter)]
        shown = [(number, place.path, place.text, place.year) for number, place in places]
        self._links = vault_files.digest(repr((code, shown)).encode(errors="surrogatepass"))

    def row(self, row: tuple[object, ...]) -> str:
        """Return the digest of a row, including the places of all papers."""
        return vault_files.digest(f"{self._links}{row!r}".encode(errors="surrogatepass"))

    def has(self, number: int, row: str, content: str | None) -> bool:
        """Return whether the last run wrote or found the note of the paper `number` with this row and content."""
        return content is not None and self._found.get(str(number)) == [row, content]

    def add(self, number: int, row: str, content: str) -> None:
        self._seen[str(number)] = [row, content]

    def save(self) -> None:
        """Write the digests if they changed; an error only makes the next run slower."""
        if self._file and self._seen != self._found:
            with suppress(OSError, RefnetError):
                make_folder(self._file.parent)
                replace_file(self._file, json.dumps(self._seen).encode())


def _read(file: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(read_regular(file, _LIMIT))
    except (OSError, RefnetError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass
class _Vault:
    folder: Path
    #: The open folder; None: missing, and nothing is written.
    handle: int | None
    plan: bool
    cache: Cache
    #: Row id of a paper → existing note, existing index note.
    notes: dict[int, Note] = field(default_factory=dict)
    indexes: dict[int, Note] = field(default_factory=dict)
    #: Name of an existing canvas → its seed.
    canvases: dict[str, int] = field(default_factory=dict)
    #: Id of an author or a topic → its existing note.
    named: dict[Id, Note] = field(default_factory=dict)
    #: Each paper of the database, and each author and topic with a note, as links name it.
    places: dict[int | Id, PaperLink] = field(default_factory=dict)
    #: `pdf_key` of a paper's id → the path of its PDF.
    pdfs: dict[str, str] = field(default_factory=dict)
    done: WrittenVault = field(default_factory=WrittenVault)

    def pdf(self, row: tuple[Any, ...]) -> str:
        """Return the path of the PDF of a row of `vault_rows.rows`; "": none."""
        keys = map(vault_files.pdf_key, vault_rows.ids(row)) if self.pdfs else ()
        return next((self.pdfs[key] for key in keys if key in self.pdfs), "")

    def ranked(self) -> list[int]:
        """Return the papers with a note and a rank, best first."""
        found = [
            (place.rank, number)
            for number, place in self.places.items()
            if place.rank and place.path and isinstance(number, int)
        ]
        return [number for _, number in sorted(found)]


def write_vault(
    target: Target,
    folder: Path,
    progress: Progress = silent,
    *,
    plan: bool = False,
    stubs: bool = False,
    cache: Path | None = None,
) -> WrittenVault:
    """Write or renew the notes of the papers of `target`; new notes go into `papers` in the vault `folder`.

    Args:
        plan: only count, write nothing.
        stubs: also write notes of papers without details.
        cache: the folder of the digests that make the next run faster.

    RefnetError if the database or the vault cannot be used, LOCKED if another run writes into the vault.
    """
    with explained(folder), vault_files.vault_folder(folder, make=not plan) as handle:
        vault = _Vault(folder, handle, plan, Cache(cache, folder))
        if handle is None or plan:
            _write_all(vault, target, progress, stubs=stubs)
            return vault.done
        with vault_files.locked(handle, folder):
            for name in (FOLDER, INDEX, CANVAS, SETTINGS):
                vault_files.make_folder(handle, folder, name)
            _write_all(vault, target, progress, stubs=stubs)
            vault.cache.save()
    return vault.done


def _find(vault: _Vault, connection: psycopg.Connection) -> None:
    """Find the existing notes and canvases, and their papers; of duplicates the shorter path counts."""
    if vault.handle is None:
        return
    vault.pdfs = vault_files.pdfs(vault.handle)
    notes = sorted(vault_files.find_notes(vault.handle), key=lambda note: len(note.path))
    pictures = [(name, *canvas_ids(text)) for name, text in vault_files.canvases(vault.handle, CANVAS)]
    pictures.sort(key=lambda picture: len(picture[0]))
    marks = [note.mark for note in notes if not note.mark.kind]
    marks += [NoteMark(index=True, ids=ids) for _, ids, _ in pictures]
    known = matches(connection, marks)
    for note in notes:
        _sort(vault, note, known)
    papers = {note.path: number for number, note in vault.notes.items()}
    for name, ids, path in pictures:
        seed = known.paper(NoteMark(index=True, ids=ids)) or papers.get(path)
        if isinstance(seed, int):
            vault.canvases[name] = seed


def _sort(vault: _Vault, note: Note, known: Matches) -> None:
    if note.mark.kind:
        named = [vault.named.setdefault(one, note) for one in note.mark.ids]
        if note not in named:
            same = f"its {note.mark.kind} already has the note {named[0].path}" if named else "it has no id"
            vault.done.skipped.append(f"{note.path}: {same}")
        return
    number = known.paper(note.mark)
    if isinstance(number, str):
        vault.done.skipped.append(f"{note.path}: {number}")
    elif number is None:
        vault.done.gone.append(note.path)
    else:
        first = (vault.indexes if note.mark.index else vault.notes).setdefault(number, note)
        if first is not note:
            vault.done.skipped.append(f"{note.path}: its paper already has the note {first.path}")


def _write_all(vault: _Vault, target: Target, progress: Progress, *, stubs: bool) -> None:
    with (
        server_errors(target, "cannot be read", "Fix the cause and retry."),
        target.connect(SESSION, autocommit=False) as connection,
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _find(vault, connection)
        crawled = vault_rows.seeds(connection)
        wanted = NotedPapers(stubs, [*vault.notes, *vault.indexes, *crawled])
        for paper, noted in vault_rows.names(connection, wanted):
            vault.places[paper.id] = _place(vault, paper, noted=noted)
        seeds, named = _seeds(vault, crawled), _name(vault, connection, wanted)
        vault.cache.begin(vault.places.items())
        papers = _write_notes(vault, vault_rows.rows(connection, wanted), seeds, progress)
        best = {one: to_read(connection, one, _BEST) for one in {*crawled.values()}}
        overall = [] if seeds <= crawled.keys() else to_read(connection, None, _BEST, sorted(seeds))
        missing = vault_rows.missing(connection, wanted, _MISSING)
        found = news(connection)
        for paper in papers:
            index = SeedIndex(paper, "", best.get(crawled.get(paper.id, 0), overall), missing)
            near = vault_views.neighbours(paper, vault.places)
            links = vault_rows.among(connection, [*near.references, *near.cited_by])
            _write_index(vault, index, near, links)
    for one, note in named:
        path = f"{vault.places[one.key].path}.md"
        if (wrote := _renew(vault, path, note, partial(one.render, vault.places))) and wrote[0]:
            vault.done.views.append(path)
    if found and found.since and found.papers:
        path = f"{INDEX}/New since {found.since.astimezone().date()}.md"
        _write_view(vault, path, vault_views.news_note(found, vault.places))
    topics = (one.name for one, _ in named if one.kind == "topic")
    _write_view(vault, BASE, vault_views.base(topics))
    _write_view(vault, GRAPH, vault_views.GRAPH, once=True)


def _name(
    vault: _Vault, connection: psycopg.Connection, wanted: NotedPapers
) -> list[tuple[NamedNote, Note | None]]:
    """Return the authors and topics for notes, each with its existing note, and give each its place."""
    found: list[tuple[NamedNote, Note | None]] = []
    used: set[Note] = set()
    for one in named_notes(connection, wanted, vault.named):
        there = sorted(
            {vault.named[name] for name in one.ids if name in vault.named}, key=lambda note: len(note.path)
        )
        if there and there[0] in used:
            vault.done.skipped.append(f"{there[0].path}: its ids are those of two {one.folder}")
            continue
        note = there[0] if there else None
        used.update(there)
        vault.done.skipped += [
            f"{other.path}: its {one.kind} already has the note {there[0].path}" for other in there[1:]
        ]
        vault.places[one.key] = PaperLink(note.path.removesuffix(".md") if note else one.path, one.name)
        found.append((one, note))
    vault.done.gone += sorted(note.path for note in {*vault.named.values()} - used)
    if vault.handle is not None and not vault.plan:
        for folder in {one.folder for one, _ in found}:
            vault_files.make_folder(vault.handle, vault.folder, folder)
    return found


def _place(vault: _Vault, paper: Paper, *, noted: bool) -> PaperLink:
    path = ""
    if paper.id in vault.notes:
        path = vault.notes[paper.id].path.removesuffix(".md")
    elif noted:
        path = f"{FOLDER}/{name_of(paper)}"
    return PaperLink(path, paper.heading, paper.year, paper.rank)


def _seeds(vault: _Vault, crawled: Iterable[int]) -> set[int]:
    """Return the seeds of crawls and of existing index notes; if there are none, the best ranked papers."""
    return {*crawled, *(vault.indexes.keys() & vault.places.keys())} or {*vault.ranked()[:_SEEDS]}


def _write_notes(
    vault: _Vault, rows: Iterable[tuple[Any, ...]], seeds: set[int], progress: Progress
) -> list[Paper]:
    """Write the notes of papers; return the seeds among them."""
    kept, total = [], sum(bool(place.path) for place in vault.places.values())
    for count, row in enumerate(rows, 1):
        number, pdf = row[0], vault.pdf(row)
        known = vault.cache.row((*row, pdf))
        note = vault.notes.get(number)
        if number in seeds:
            kept.append(vault_rows.paper(row))
        if note and note.content and vault.cache.has(number, known, note.content):
            vault.cache.add(number, known, note.content)
            vault.done.unchanged += 1
        else:
            _write_note(vault, vault_rows.paper(row, pdf), note, known)
        if not count & 0xFF:
            progress(Counted("notes", "notes"), count, total)
    return kept


def _write_note(vault: _Vault, paper: Paper, note: Note | None, known: str) -> None:
    path = f"{vault.places[paper.id].path}.md"
    if wrote := _renew(vault, path, note, partial(render, paper, vault.places)):
        changed, content = wrote
        vault.cache.add(paper.id, known, content)
        vault.done.new += changed and note is None
        vault.done.changed += changed and note is not None
        vault.done.unchanged += not changed


def _renew(
    vault: _Vault, path: str, note: Note | None, make: Callable[[str | None], str]
) -> tuple[bool, str] | None:
    """Renew a note as `vault_files.renew` does; None if it is skipped, and the reason is recorded."""
    if vault.handle is None:
        return True, ""
    try:
        with explained(vault.folder / path):
            if note is None and vault.plan and vault_files.exists(vault.handle, path):
                raise NotOursError("a file of this name exists, and RefNet did not write it")  # noqa: TRY301
            return vault_files.renew(vault.handle, path, note, make, plan=vault.plan)
    except NotOursError as error:
        vault.done.skipped.append(f"{path}: {error}")
        return None


def _write_index(vault: _Vault, index: SeedIndex, near: Neighbours, links: Links) -> None:
    """Write the index note and the canvas of a seed, also if they were renamed."""
    seed = index.seed
    note = vault.indexes.get(seed.id)
    name = f"{name_of(seed, '.canvas')}.canvas"
    name = next((one for one, number in vault.canvases.items() if number == seed.id), name)
    path = note.path if note else f"{INDEX}/{name_of(seed, before='Index of ')}.md"
    index = replace(index, canvas=f"{CANVAS}/{name}")
    wrote = _renew(vault, path, note, partial(vault_views.index_note, index, vault.places))
    if wrote and wrote[0]:
        vault.done.views.append(path)
    if vault.canvases.get(name, seed.id) != seed.id:
        vault.done.skipped.append(f"{index.canvas}: it is the canvas of another paper")
    else:
        _write_view(vault, index.canvas, vault_views.canvas(seed, vault.places, near, links))


def _write_view(vault: _Vault, path: str, text: str, *, once: bool = False) -> None:
    """Write a base or a canvas, unless it was edited; `once`: unless it exists."""
    if vault.handle is None:
        vault.done.views.append(path)
        return
    try:
        with explained(vault.folder / path):
            if once and vault_files.exists(vault.handle, path):
                return
            before, state = vault_files.read(vault.handle, path)
            if before == text:
                return
            if before is not None and not vault_views.is_as_written(before):
                raise NotOursError("it was edited, so it stays; delete it for a new one")  # noqa: TRY301
            if vault.plan or vault_files.replace(vault.handle, path, text, state):
                vault.done.views.append(path)
    except NotOursError as error:
        vault.done.skipped.append(f"{path}: {error}")
