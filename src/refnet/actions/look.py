"""show, cat, query, browse: an artifact in full, its files and tables, one of its files, its tables by SQL.

SQL runs in a throwaway scratch server.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from tempfile import SpooledTemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from refnet.actions.choose import choose_to_read
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Evidence, Manifest, utc
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural, size
from refnet.core.glob import Glob, TableGlob
from refnet.core.member_names import ArchiveError, checked, some, spelled
from refnet.core.member_names import show as shown
from refnet.sources import kind_of, source_of
from refnet.sources.contents import ListedTable, Query, QueryAnswer
from refnet.sources.folder.files_artifact import archive_errors
from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.store.local import LocalStore

if TYPE_CHECKING:
    from refnet.sources.database.query.copies import ScratchCopy

#: A file up to this size is checked in memory, a larger one on the disk.
_IN_MEMORY = 64 << 20
#: Similar names are looked for in lists of up to so many files.
_FEW = 100_000


@dataclass(frozen=True)
class Shown:
    """One artifact in full."""

    chosen: OpenArtifact
    manifest: Manifest
    #: Name, rows and bytes of each table, of an artifact of the database.
    tables: tuple[dict[str, Any], ...] = ()
    #: Its pin and its tags.
    marks: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return self.chosen.entry.state if self.chosen.entry else "not in the catalog"

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return self.chosen.entry.evidence if self.chosen.entry else ()

    def to_json(self) -> dict[str, Any]:
        return {
            "manifest": json.loads(self.manifest.to_json()),
            "state": self.state,
            "store": self.chosen.store or None,
            "marks": self.chosen.entry.marks.to_json() if self.chosen.entry else None,
            "tables": self.tables,
            "evidence": [json.loads(line.to_json()) for line in self.evidence],
        }


def show(context: Context, name: str, at: str | None = None) -> Shown:
    """The artifact `name` (see choose_to_read); RefnetError without a manifest."""
    chosen = choose_to_read(context, name, at)
    manifest = chosen.manifest
    if manifest is None:
        raise RefnetError(
            f"{chosen.name} has no manifest to show",
            "`refnet verify` checks it by its own index; `refnet adopt` makes a manifest for it.",
        )
    marks = chosen.entry.marks.describe(context.clock.now()) if chosen.entry else ()
    closed = not isinstance(context.store, LocalStore) and not context.has_key
    tables = () if closed else kind_of(chosen.source).opened(chosen).tables()
    return Shown(chosen, manifest, tables, tuple(marks))


@dataclass(frozen=True)
class Contents:
    """The files or tables of an artifact that a pattern matches."""

    artifact: OpenArtifact
    #: How many there are in the artifact.
    total: int
    files: tuple[Listed, ...] = ()
    tables: tuple[ListedTable, ...] = ()
    #: The files were read from the archive, which has no list of them.
    unlisted: bool = False

    def head(self) -> dict[str, Any]:
        """The report without its entries."""
        manifest = self.artifact.manifest
        return {
            "name": self.artifact.name,
            "source": self.artifact.source,
            "created": utc(manifest.created) if manifest else None,
            "total": self.total,
        }

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of the report; there may be a million."""
        yield from map(file_to_json, self.files)
        for table in self.tables:
            yield {"schema": table.schema, "name": table.name, "rows": table.rows, "bytes": table.raw}


def file_to_json(listed: Listed) -> dict[str, Any]:
    """Return an entry of a list of files as plain values."""
    return {
        "path": spelled(listed.path),
        "kind": listed.kind,
        "size": listed.size,
        "mode": f"{listed.mode:04o}",
        "mtime_ns": listed.mtime_ns,
        "sha256": listed.sha256 or None,
        "target": spelled(listed.target) or None,
    }


def files(context: Context, meant: str, pattern: str | None, at: str | None = None) -> Contents:
    """Return the files of the artifact `meant` (see choose_to_read) that `pattern` matches; None: all."""
    wanted = Glob(pattern) if pattern else None
    chosen = choose_to_read(context, meant, at)
    source = source_of(context.settings, chosen.source)
    _, found, listed = source.files(chosen, f"Use `refnet show {chosen.name} --tables`.")
    matching = tuple(one for one in found.files if wanted is None or wanted.matches(one.path))
    _some_of(matching, chosen, pattern, plural(len(found.files), "name"))
    return Contents(chosen, len(found.files), files=matching, unlisted=not listed)


def tables(context: Context, meant: str, pattern: str | None, at: str | None = None) -> Contents:
    """Return the tables of the artifact `meant` that `pattern` matches; None: all."""
    wanted = TableGlob.of(pattern)
    chosen = choose_to_read(context, meant, at)
    source = source_of(context.settings, chosen.source)
    found = source.tables(chosen, f"Use `refnet show {chosen.name} --files`.")
    matching = tuple(one for one in found if wanted.matches(one.schema, one.name))
    _some_of(matching, chosen, pattern, plural(len(found), "table"))
    return Contents(chosen, len(found), tables=matching)


@dataclass(frozen=True)
class Content:
    """The content of one file, complete and checked."""

    artifact: OpenArtifact
    listed: Listed
    #: Open at its begin.
    content: BinaryIO
    #: It was compared with a recorded digest.
    compared: bool


@contextmanager
def content(context: Context, meant: str, path: str, at: str | None = None) -> Iterator[Content]:
    """Open the file `path` of the artifact `meant`; RefnetError (DAMAGED) if it differs from its digest.

    path: a path, or a pattern that matches one file.
    """
    chosen = choose_to_read(context, meant, at)
    source = source_of(context.settings, chosen.source)
    artifact, found, listed = source.files(chosen, "Read its tables with `refnet query`.")
    one = _file(chosen, found, path)
    with SpooledTemporaryFile(_IN_MEMORY) as spool:
        out = cast("BinaryIO", spool)
        try:
            with archive_errors(chosen.name):
                artifact.copy(one, found, out, compare=listed)
            out.seek(0)
        except OSError as error:
            raise RefnetError(
                f"{shown(one.path)} ({size(one.size)}) cannot be checked in {gettempdir()}: {error.strerror or error}",
                "Free space there, or set TMPDIR to a folder with more.",
            ) from error
        yield Content(chosen, one, out, compared=listed)


def _some_of(matching: tuple[Any, ...], chosen: OpenArtifact, pattern: str | None, total: str) -> None:
    if pattern and not matching:
        raise RefnetError(
            f"{chosen.name} has {total}, and '{pattern}' matches none",
            "Capitals count; `*` matches no `/`: '**/name*' looks in every folder.",
        )


def _file(chosen: OpenArtifact, found: FileList, path: str) -> Listed:
    one = _exact(found, path)
    if one is None:
        wanted = Glob(path)
        several = [each for each in found.files if each.kind is FileKind.FILE and wanted.matches(each.path)]
        if len(several) != 1:
            raise _not_one(chosen, found, path, several)
        one = several[0]
    if one.kind is not FileKind.FILE:
        raise RefnetError(
            f"{shown(one.path)} in {chosen.name} is a {one.kind}, not a file",
            f"It leads to {shown(one.target)}."
            if one.kind is FileKind.LINK
            else f"`refnet show {chosen.name} --files {shlex.quote(f'{shown(one.path)}/**')}` lists its content.",
            Exit.USAGE,
        )
    return one


def _exact(found: FileList, path: str) -> Listed | None:
    try:
        return found.by_path.get(checked(os.fsencode(path)))
    except (ArchiveError, UnicodeEncodeError):  # not a path; a pattern, perhaps
        return None


def _not_one(chosen: OpenArtifact, found: FileList, path: str, several: list[Listed]) -> RefnetError:
    if several:
        return RefnetError(
            f"'{path}' matches {len(several):,} files of {chosen.name}: {some(each.path for each in several)}",
            "Give the complete path of one.",
            Exit.USAGE,
        )
    names = [each.path for each in found.files] if len(found.files) <= _FEW else []
    near = get_close_matches(path, names, 1)
    hint = f"Did you mean {shown(near[0])}?" if near else f"`refnet show {chosen.name} --files` lists them."
    return RefnetError(f"{chosen.name} has no file '{path}'", hint)


@contextmanager
def query(context: Context, meant: str, asked: Query) -> Iterator[QueryAnswer]:
    """Run a query on the artifact `meant`, see choose_to_read; RefnetError if the server rejects it."""
    chosen = choose_to_read(context, meant, asked.at)
    with source_of(context.settings, chosen.source).query(context, chosen, asked) as answer:
        yield answer


@contextmanager
def browse(
    context: Context, meant: str, at: str | None, *, trust: bool = False
) -> Iterator[tuple[OpenArtifact, ScratchCopy]]:
    """Load all of the artifact `meant` into a scratch server, which ends with the block."""
    chosen = choose_to_read(context, meant, at)
    with source_of(context.settings, chosen.source).browse(context, chosen, trust=trust) as copy:
        yield chosen, copy
