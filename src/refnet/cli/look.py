"""`refnet show`, `cat`, `log`, `find`: one artifact, one of its files, and files and tables over all artifacts."""

from __future__ import annotations

import json
import sys
import unicodedata
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import typer

from refnet.actions import history, look
from refnet.actions.choose import named_source
from refnet.actions.history import Search, Step
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.completion import ALIASES, sources
from refnet.cli.context import context, context_with_key, note, print_json, print_json_list, with_progress
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain, plural, size
from refnet.core.member_names import MAX_PATH
from refnet.core.member_names import show as shown
from refnet.sources import kind_of
from refnet.sources.contents import ItemVersion
from refnet.sources.folder.listing import FileKind, Listed

_BLOCK = 1 << 20
#: Characters of a digest that a table shows.
_DIGEST = 12


@spread
def cat(
    artifact: options.Artifact,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The file, or a pattern that matches one file.")
    ],
    at: options.At = None,
    binary: Annotated[
        bool, typer.Option("--binary", "--force", help="Print binary files on a terminal too.")
    ] = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Print one file of an artifact.

    Byte for byte, to stdout, after its digest was compared with the recorded one.
    """
    with (
        with_progress(context(place, key=True), "cat") as here,
        look.content(here, artifact, path, at) as found,
    ):
        if not found.compared:
            note(f"{found.artifact.name} has no list of files, so the file was not compared with a digest")
        if sys.stdout.isatty() and not binary and not _is_text(found.content):
            raise RefnetError(
                f"{shown(found.listed.path)} is a binary file, and stdout is a terminal",
                "Redirect it (> FILE), or give --binary.",
                Exit.USAGE,
            )
        found.content.seek(0)
        sys.stdout.flush()
        for block in _blocks(found.content):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    while block := content.read(_BLOCK):
        yield block


def _is_text(content: BinaryIO) -> bool:
    """Whether the content is UTF-8 without terminal control characters."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        pieces = (decoder.decode(block) for block in _blocks(content))
        clean = all(unicodedata.category(one) != "Cc" or one in "\n\r\t" for piece in pieces for one in piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return clean


@spread
def log(
    meant: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE/PATH", help="A file (obsidian/papers/x.md), or a table (database/papers)."
        ),
    ],
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Show in which artifacts a file or table changed.

    Each line is an artifact in which it is first seen, changed, deleted or seen again, with its size and digest.
    Artifacts of only some tables are left out. Ends with 3 if an artifact could not be read.
    """
    with with_progress(context_with_key(place), "log") as here:
        source, slash, path = meant.partition("/")
        found = history.log(here, f"{ALIASES.get(source, source)}{slash}{path}")
    if as_json:
        print_json(found.to_json())
    else:
        tables = kind_of(found.source).contains == "tables"
        head = (
            "artifact",
            "created",
            "change",
            "rows" if tables else "size",
            "digest" if tables else "SHA-256",
            "",
        )
        render.print_columns([head, *map(_row, found.steps)], right=(3,))
        print(f"{shown(found.name, MAX_PATH)}: {plural(found.read, 'artifact')} of {found.source} read")
        if found.undigested:
            why = "not proven, so they have no digest: only rows, size and columns were compared"
            note(f"{plural(found.undigested, 'artifact')} of these: {why}")
    _left_out(found.notes, as_json=as_json)
    raise typer.Exit(found.exit)


def _row(step: Step) -> tuple[str, ...]:
    start = (step.entry.name, formatting.local(step.entry.created), step.what)
    there = step.version
    if there is None:
        return (*start, "", "", "")
    amount = size(there.size) if there.rows is None else f"{there.rows:,}"
    kind = there.kind if there.kind in {"folder", "link"} else ""
    more = (
        "" if there.rows is not None else " ".join(filter(None, (kind, *(shown(one) for one in there.more))))
    )
    return (*start, amount, short(there), more)


def short(there: ItemVersion) -> str:
    """Short form of a digest; a small table's digest begins with zeros, so its end is used."""
    return there.digest[:_DIGEST] if there.rows is None else there.digest[-_DIGEST:]


@spread
def find(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="The source; vault is obsidian. Default: every source.",
            autocompletion=sources,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="Paths ('todo*', 'papers/**/*.pdf') or tables ('old_*')."),
    ] = None,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Find the artifacts with a file or table.

    A GLOB without / matches a name in any folder. Ends with 1 if nothing matches, 3 if an artifact could not be
    read.
    """
    with with_progress(context_with_key(place), "find") as here:
        if source and pattern:
            found = [history.find(here, ALIASES.get(source, source), pattern)]
        elif source and not named_source(here, ALIASES.get(source, source)):
            found = history.find_everywhere(here, source)
        else:
            raise RefnetError("GLOB is missing", "Such as: refnet find '*.md'", Exit.USAGE)
    if as_json:
        print_json(found[0].to_json() if pattern else {"sources": [one.to_json() for one in found]})
    else:
        for one in found:
            _print_found(one)
    _left_out(tuple(sentence for one in found for sentence in one.notes), as_json=as_json)
    codes = {one.exit for one in found}
    raise typer.Exit(next((code for code in (Exit.UNVERIFIED, Exit.DONE) if code in codes), Exit.FAILED))


def _print_found(found: Search) -> None:
    rows = [
        (
            one.first.name,
            one.last.name if one.last is not one.first else "",
            f"{one.count:,}",
            shown(one.name, MAX_PATH),
        )
        for one in found.found
    ]
    if rows:
        render.print_columns([("first", "last", "in", "name"), *rows], right=(2,))
    print(f"{plural(len(rows), 'name')} in {plural(found.read, 'artifact')} of {found.source}")


def _left_out(notes: tuple[str, ...], *, as_json: bool) -> None:
    for sentence in () if as_json else notes:
        note(sentence)


@spread
def show(
    artifact: options.Artifact,
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="GLOB", help="Only these, after --files or --tables: '*.md', 'papers/**'."),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="List the files that GLOB matches, or all.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="List the tables that GLOB matches, or all.")
    ] = False,
    at: options.At = None,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Show one artifact: its origin, content and evidence."""
    if (files and tables) or (pattern and not (files or tables)):
        raise RefnetError(
            "--files and --tables exclude each other" if files else "a GLOB needs --files or --tables",
            "Give one of them, such as: refnet show obsidian --files '*.md'.",
            Exit.USAGE,
        )
    if not (files or tables):
        found = look.show(context(place), artifact, at)
        print_json(found.to_json()) if as_json else render.print_artifact(found)
        return
    with with_progress(context(place, key=True), "show") as here:
        contents = (look.files if files else look.tables)(here, artifact, pattern, at)
    if as_json:
        print_json_list(contents.head(), "files" if files else "tables", map(json.dumps, contents.entries()))
        return
    if contents.unlisted:
        note(f"{contents.artifact.name} has no list of files: its archive was read")
    for listed in contents.files:
        print(_file_line(listed))
    if contents.tables:
        rows = [(plain(one.qualified), f"{one.rows:,}", size(one.raw)) for one in contents.tables]
        render.print_columns([("table", "rows", "as text"), *rows], right=(1, 2), shorten=0)


def _file_line(one: Listed) -> str:
    end = {FileKind.FOLDER: "/", FileKind.LINK: f" -> {shown(one.target, MAX_PATH)}"}.get(one.kind, "")
    bytes_ = size(one.size) if one.kind is FileKind.FILE else ""
    return f"{one.mode:04o}  {bytes_:>9}  {render.local_ns(one.mtime_ns)}  {shown(one.path, MAX_PATH)}{end}"
