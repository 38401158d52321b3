"""Writes the network into an Obsidian vault: one note per paper, an index note and a canvas per seed, a base of all.

An existing note is found by the id in its frontmatter, wherever its reader moved it, and is never renamed; its
reader's text stays. What has not changed is not written. A note that was deleted comes back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from refnet.files import explain
from refnet.network import SESSION, server_errors, vault_rows, vault_views
from refnet.network.frontmatter import NotOursError
from refnet.network.note import Paper, Place, name_of, render
from refnet.network.vault_cache import Cache
from refnet.network.vault_files import Note, find_notes, locked, make_folder, read, renew, replace
from refnet.network.vault_rows import Wanted
from refnet.network.vault_views import INDEX_KEY, Index
from refnet.postgres.session import Target
from refnet.recovery.model.source import Progress, silent

FOLDER, INDEX, CANVAS, SETTINGS = "papers", "index", "canvas", ".obsidian"
BASE, GRAPH = "papers.base", f"{SETTINGS}/graph.json"
_NUMBERED = re.compile(r" \(([0-9]{1,19})\)\Z")
#: How many papers serve as seeds without a crawl, and how many each list of an index note has.
_SEEDS, _BEST, _MISSING = 10, 15, 15


@dataclass
class Written:
    """Counts of the notes of papers."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    #: The other files that are new or changed: index notes, canvases, the base, the colours of the graph.
    views: list[str] = field(default_factory=list)
    #: The files that were not touched, and why.
    skipped: list[str] = field(default_factory=list)
    #: The notes whose papers are not in the database; they stay.
    gone: list[str] = field(default_factory=list)


@dataclass
class _Vault:
    folder: Path
    plan: bool
    cache: Cache
    #: Existing notes by paper, and existing index notes by seed.
    notes: dict[int, Note] = field(default_factory=dict)
    indexes: dict[int, Note] = field(default_factory=dict)
    #: The names of existing canvases, by seed.
    canvases: dict[int, str] = field(default_factory=dict)
    #: Every paper of the database.
    places: dict[int, Place] = field(default_factory=dict)
    done: Written = field(default_factory=Written)

    def ranked(self) -> list[int]:
        """Return the papers that have a note and a rank, the best first."""
        found = [(place.rank, number) for number, place in self.places.items() if place.rank and place.path]
        return [number for _, number in sorted(found)]


def write_vault(
    target: Target,
    folder: Path,
    progress: Progress = silent,
    *,
    plan: bool = False,
    stubs: bool = False,
    cache: Path | None = None,
) -> Written:
    """Write or renew the notes of the papers of `target`; new ones go into the folder `papers` of the vault `folder`.

    Args:
        plan: count and write nothing.
        stubs: papers without details get a note too.
        cache: the folder for what makes the next run fast.

    RefnetError if the database or the vault cannot be used, LOCKED if another run writes into the vault.
    """
    vault = _Vault(folder, plan, Cache(cache, folder))
    try:
        if not plan:
            folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if plan else locked(folder):
            _find(vault)
            with server_errors(target, "cannot be read", "Fix the cause and retry."):
                _write_all(vault, target, progress, stubs=stubs)
            if not plan:
                vault.cache.save()
    except OSError as error:
        raise explain(error, Path(error.filename or folder)) from error
    return vault.done


def _find(vault: _Vault) -> None:
    for note in find_notes(vault.folder):
        known = vault.indexes if note.key == INDEX_KEY else vault.notes
        first = known.setdefault(note.number, note)
        if first is not note:
            vault.done.skipped.append(f"{note.path}: paper {note.number} has another note, {first.path}")
    for path in sorted((vault.folder / CANVAS).glob("*).canvas"), reverse=True):
        if numbered := _NUMBERED.search(path.stem):
            vault.canvases[int(numbered[1])] = path.name
    for name in () if vault.plan else (FOLDER, INDEX, CANVAS, SETTINGS):
        make_folder(vault.folder, name)


def _write_all(vault: _Vault, target: Target, progress: Progress, *, stubs: bool) -> None:
    with target.connect(SESSION, autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        crawled = vault_rows.seeds(connection)
        wanted = Wanted(stubs, [*vault.notes, *vault.indexes, *crawled])
        for paper, noted in vault_rows.names(connection, wanted):
            vault.places[paper.id] = _place(vault, paper, noted=noted)
        _tell_gone(vault)
        seeds = _seeds(vault, crawled)
        vault.cache.begin(vault.places.items())
        papers = _write_notes(vault, vault_rows.rows(connection, wanted), seeds, progress)
        best = vault_rows.best(connection, [*{*crawled.values()}], _BEST)
        missing = vault_rows.missing(connection, wanted, _MISSING)
    overall = vault.ranked()[:_BEST]
    for paper in papers:
        _write_index(vault, paper, best.get(crawled.get(paper.id, 0), overall), missing)
    _write_view(vault, BASE, vault_views.base())
    if not os.path.lexists(vault.folder / GRAPH):
        _write_view(vault, GRAPH, vault_views.GRAPH)


def _place(vault: _Vault, paper: Paper, *, noted: bool) -> Place:
    path = ""
    if paper.id in vault.notes:
        path = vault.notes[paper.id].path.removesuffix(".md")
    elif noted:
        path = f"{FOLDER}/{name_of(paper)}"
    return Place(path, paper.heading, paper.year, paper.rank)


def _tell_gone(vault: _Vault) -> None:
    notes = [*vault.notes.values(), *vault.indexes.values()]
    vault.done.gone = sorted(note.path for note in notes if note.number not in vault.places)


def _seeds(vault: _Vault, crawled: Iterable[int]) -> set[int]:
    """Return the seeds of crawls and of existing index notes; where there are none, the best ranked papers."""
    return {*crawled, *(vault.indexes.keys() & vault.places.keys())} or {*vault.ranked()[:_SEEDS]}


def _write_notes(
    vault: _Vault, rows: Iterable[tuple[Any, ...]], seeds: set[int], progress: Progress
) -> list[Paper]:
    """Write the note of each paper; return the papers that are seeds."""
    kept, total = [], sum(bool(place.path) for place in vault.places.values())
    for count, row in enumerate(rows, 1):
        number, known = row[0], vault.cache.row(row)
        note = vault.notes.get(number)
        if number in seeds:
            kept.append(vault_rows.paper(row))
        if note and note.content and vault.cache.has(number, known, note.content):
            vault.cache.add(number, known, note.content)
            vault.done.unchanged += 1
        else:
            _write_note(vault, vault_rows.paper(row), note, known)
        if not count & 0xFF:
            progress("notes", count, total)
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
    """Renew a note as `vault_files.renew` does; if it must not be touched, return None and say why."""
    try:
        if note is None and vault.plan and os.path.lexists(vault.folder / path):
            raise NotOursError("a file that is not RefNet's has its name")  # noqa: TRY301
        return renew(vault.folder / path, note, make, plan=vault.plan)
    except NotOursError as error:
        vault.done.skipped.append(f"{path}: {error}")
        return None


def _write_index(vault: _Vault, seed: Paper, best: list[int], missing: list[tuple[int, int]]) -> None:
    """Write the index note and the canvas of a seed; each is found by its number where its name has changed."""
    note = vault.indexes.get(seed.id)
    canvas = f"{CANVAS}/{vault.canvases.get(seed.id) or name_of(seed, '.canvas') + '.canvas'}"
    path = note.path if note else f"{INDEX}/{name_of(seed, before='Index of ')}.md"
    index = Index(seed, canvas, best, missing)
    wrote = _renew(vault, path, note, partial(vault_views.index_note, index, vault.places))
    if wrote and wrote[0]:
        vault.done.views.append(path)
    _write_view(vault, canvas, vault_views.canvas(seed, vault.places))


def _write_view(vault: _Vault, path: str, text: str) -> None:
    """Write a base or a canvas, unless somebody has edited it."""
    try:
        before, state = read(vault.folder / path)
        if before == text:
            return
        if before is not None and not vault_views.is_as_written(before):
            raise NotOursError("it was edited, so it stays; delete it for a new one")  # noqa: TRY301
        if vault.plan or replace(vault.folder / path, text, state):
            vault.done.views.append(path)
    except NotOursError as error:
        vault.done.skipped.append(f"{path}: {error}")
