"""SQLite databases of the settings, as used by self-hosted programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, NoReturn

from refnet import wiring
from refnet.catalog.artifact import Deviation, Finding, OpenArtifact
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import size as sized
from refnet.core.glob import TableGlob
from refnet.settings import user_path
from refnet.sources import restored_places
from refnet.sources.check_result import CheckLine, error_line, ok, warning, writable
from refnet.sources.contents import (
    LIVE,
    ArtifactDifference,
    Changed,
    ItemVersion,
    Query,
    QueryAnswer,
    repeated,
)
from refnet.sources.folder.folder_restoring import FolderRestore, FolderUndo
from refnet.sources.folder.source import Folder
from refnet.sources.folder.target import FolderTarget
from refnet.sources.folder.tree import SHOWN
from refnet.sources.restoring import RestoreRequest
from refnet.sources.sqlite.artifact import SqliteArtifact, SqliteMaker
from refnet.sources.sqlite.box import SqliteContents, SqliteTable, box, database_file, refuse_links
from refnet.sources.sqlite.restore import SqliteRestore, SqliteUndo
from refnet.store.local import LocalStore


class Sqlite(Folder):
    """A database file with SQLite's files beside it, which a restore swaps like entries of a folder."""

    noun: ClassVar[str] = "SQLite database"
    called: ClassVar[str] = "an SQLite database"
    options: ClassVar[str] = ""
    contains: ClassVar[str] = "tables"
    is_snapshot: ClassVar[bool] = True

    def reached(self) -> str:
        database_file(self._path)
        return self.what()

    def target(self) -> FolderTarget:
        return self._at(self._path)

    @property
    def _path(self) -> Path:
        if (path := self.own.path) is None:
            raise wiring.not_configured(self.settings, self.name)
        return path

    @property
    def _base(self) -> Path:
        """The folder for private folders."""
        return self.settings.home / "scratch"

    def _at(self, path: Path) -> FolderTarget:
        """Swap target for the file `path`, with a work folder beside it."""
        return FolderTarget(
            self.name, path.parent.resolve() / path.name, None, entire=True, swaps=self._swaps
        )

    def _target(self, to: str | None, *, merge: bool = True) -> FolderTarget:  # noqa: ARG002  # that of a folder
        if to is None:
            refuse_links(self._path)
            return self.target()
        path = user_path(to)
        is_file = "://" not in to and not path.is_dir() and not path.is_symlink()
        if why := restored_places.of_others(self.settings, path) if is_file else "is not the path of a file":
            raise RefnetError(f"--to: {path} {why}", "Name a new file.", Exit.USAGE)
        return replace(self._at(path), elsewhere=True)

    @staticmethod
    def opened(stored: OpenArtifact) -> SqliteArtifact:
        return SqliteArtifact(stored)

    def maker(
        self,
        *,
        jobs: int | None = None,  # noqa: ARG002  # one file
        tables: tuple[str, ...] = (),
        into: LocalStore | None = None,  # noqa: ARG002
    ) -> SqliteMaker:
        if tables:
            raise RefnetError(
                f"--table is for databases of a server, and {self.name} is a file", "Omit it.", Exit.USAGE
            )
        return SqliteMaker(self.name, self._path, self._base)

    def checks(self) -> Iterator[CheckLine]:
        try:
            yield ok(self.name, f"{self._path}, {sized(database_file(self._path).st_size)}")
            if not writable(self._path.parent):
                hint = "A restore must run as the owner of the folder or as root."
                yield warning(
                    self.name, f"this user cannot restore: {self._path.parent} is not writable", hint
                )
        except RefnetError as error:
            yield error_line(self.name, error)

    def replaced(self) -> str:
        return str(self._path) if self.own.path and self._path.exists() else ""

    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> FolderRestore:  # noqa: ARG002
        target = self._target(request.to)
        return SqliteRestore(chosen, target, request, self.whose, partial(self._changes, chosen))

    def _changes(self, chosen: OpenArtifact) -> Iterator[str]:
        yield from (f"{name}: {why}" for name, _, why in self._live().differences(self._contents(chosen)))

    def undoing(self, context: Context, request: RestoreRequest) -> FolderUndo:  # noqa: ARG002
        return SqliteUndo(partial(self._target, request.to))

    def compare(self, context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
        found = self.live_differences(context, chosen)
        wrong = [*found.added, *(f"{one.name}: {one.why}" for one in found.changed), *found.removed]
        outcome = Outcome.FAILED if wrong else Outcome.PASSED
        return (Finding(f"tables of {self.name}", outcome, "; ".join(wrong[:SHOWN])),)

    def _live(self) -> SqliteContents:
        with box(self._base, str(self._path), self._path) as own:
            return own.live(self._path)

    def _contents(self, chosen: OpenArtifact) -> SqliteContents:
        """An artifact's list of tables, read from the database if it has none."""
        artifact = SqliteArtifact(chosen)
        if recorded := artifact.contents():
            return recorded
        with box(self._base, chosen.name) as own:
            found = own.check(artifact.unpack(own.database))
        return SqliteContents(found.tables, found.schema)

    def differences(self, context: Context, before: OpenArtifact, after: OpenArtifact) -> ArtifactDifference:  # noqa: ARG002
        return self._difference(before, after.name, self._contents(after))

    def live_differences(self, context: Context, before: OpenArtifact) -> ArtifactDifference:  # noqa: ARG002
        return self._difference(before, LIVE, self._live())

    def _difference(self, before: OpenArtifact, name: str, after: SqliteContents) -> ArtifactDifference:
        found = list(self._contents(before).differences(after))
        added, removed = (
            tuple(one for one, how, _ in found if how is wanted)
            for wanted in (Deviation.EXTRA, Deviation.MISSING)
        )
        changed = tuple(Changed(one, why) for one, how, why in found if how is Deviation.CHANGED)
        return ArtifactDifference(self.name, before.name, name, added, changed, removed)

    def tables(self, chosen: OpenArtifact, advice: str) -> tuple[SqliteTable, ...]:  # noqa: ARG002
        return self._contents(chosen).tables

    def files(self, chosen: OpenArtifact, advice: str) -> NoReturn:  # noqa: ARG002
        raise self.without(chosen, "files", "Read its tables with `refnet query`.")

    def browse(self, context: Context, chosen: OpenArtifact, *, trust: bool) -> NoReturn:  # noqa: ARG002
        advice = "`refnet query` reads it; so does sqlite3, after gunzip."
        raise RefnetError(f"psql cannot open {chosen.name}, a database of SQLite", advice, Exit.USAGE)

    def exactly(self, name: str) -> _TableFinder:
        return _TableFinder(self, TableGlob(name))

    def like(self, pattern: str) -> _TableFinder:
        return _TableFinder(self, TableGlob(pattern))

    @contextmanager
    def query(self, context: Context, chosen: OpenArtifact, asked: Query) -> Iterator[QueryAnswer]:  # noqa: ARG002
        artifact = SqliteArtifact(chosen)
        with box(self._base, chosen.name) as own:
            found = own.query(artifact.unpack(own.database), asked.query, asked.limits)
        if asked.as_json and len(set(found.columns)) < len(found.columns):
            raise repeated(found.columns)
        texts = (tuple(None if one is None else str(one) for one in row) for row in found.rows)
        objects = ((json.dumps(dict(zip(found.columns, row, strict=False))),) for row in found.rows)
        cut = RefnetError(f"the answer is cut after {len(found.rows):,} rows", "Raise --rows or --megabytes.")
        read = _Read(len(found.rows), cut if found.cut else None)
        yield QueryAnswer(chosen, found.columns, objects if asked.as_json else texts, None, read)


@dataclass(frozen=True)
class _Read:
    """Number of rows read, and why reading stopped."""

    count: int
    cut: RefnetError | None


@dataclass(frozen=True)
class _TableFinder:
    """Finds tables by name."""

    source: Sqlite
    wanted: TableGlob

    def versions(self, artifact: OpenArtifact) -> tuple[ItemVersion, ...]:
        found = self.source._contents(artifact).tables
        return tuple(
            ItemVersion(one.name, "table", 0, one.sha256, one.rows)
            for one in found
            if self.wanted.matches("main", one.name)
        )
