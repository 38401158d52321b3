"""SQLite databases of the settings, as used by self-hosted programs, and their restore.

A restore swaps the file as an entry of a folder, with the files that SQLite keeps beside it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, NoReturn

from refnet import wiring
from refnet.catalog.artifact import Deviation, Finding, OpenArtifact
from refnet.catalog.manifest import Level, Outcome
from refnet.context import Context
from refnet.core import attributes
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FILE, NotRegularError, explain, explained, open_file, opened
from refnet.core.formatting import size as sized
from refnet.core.glob import TableGlob
from refnet.settings import user_path
from refnet.sources import hooks, restored_places
from refnet.sources.base import Permits
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
from refnet.sources.folder import rename, swapping
from refnet.sources.folder.folder_restore import FolderRestore, FolderUndo
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.restore_files import FolderPlan, RestoredFolder
from refnet.sources.folder.selection import LivePlace, Selection
from refnet.sources.folder.source import Folder
from refnet.sources.folder.swap_journal import SwapReason, SwapUnit
from refnet.sources.folder.swapping import WorkFolder
from refnet.sources.folder.target import FolderTarget, explain_os_errors, finish_interrupted
from refnet.sources.folder.tree import SHOWN, Changes
from refnet.sources.restoring import RestoreRequest
from refnet.sources.sqlite.artifact import MAGIC, SqliteArtifact, SqliteMaker
from refnet.sources.sqlite.box import SqliteContents, SqliteTable, box, database_file, refuse_links
from refnet.store.local import LocalStore

_MODE = 0o640


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
        full: bool = False,  # noqa: ARG002  # it is always whole
    ) -> SqliteMaker:
        if tables:
            raise RefnetError(
                f"--table is for databases of a server, and {self.name} is a file", "Omit it.", Exit.USAGE
            )
        return SqliteMaker(self.name, self._path, self._base)

    def checks(self) -> Iterator[CheckLine]:
        try:
            status = database_file(self._path)
            with explained(self._path), opened(self._path, OPEN_FILE) as file:
                head = os.read(file, len(MAGIC))
            if head not in {MAGIC, b""}:
                wrong = RefnetError(f"{self._path} is no SQLite database", "Set the path of one.")
                yield error_line(self.name, wrong)
                return
            yield ok(self.name, f"{self._path}, {sized(status.st_size)}")
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
        return SqliteRestore(self, chosen, self._target(request.to), request)

    def undoing(self, context: Context, request: RestoreRequest) -> FolderUndo:  # noqa: ARG002
        return SqliteUndo(partial(self._target, request.to))

    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:  # noqa: ARG002
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
        named = asked.sample.replace('"', '""')
        sql = asked.query if not named else f'SELECT * FROM "{named}" LIMIT {asked.limits.rows}'  # noqa: S608  # quoted
        with box(self._base, chosen.name) as own:
            found = own.query(artifact.unpack(own.database), sql, asked.limits)
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


class SqliteRestore(FolderRestore):
    """A restore of a database of SQLite."""

    unit = "table"

    def __init__(
        self, source: Sqlite, chosen: OpenArtifact, target: FolderTarget, request: RestoreRequest
    ) -> None:
        super().__init__(chosen, target, request, source.whose)
        self.source = source

    def _decided(self, context: Context) -> FolderPlan:
        chosen, target, path = self.chosen, self.target, self.target.folder
        told, problems = [*self._told()] if path.exists() and not target.elsewhere else [], [*_in_use(target)]
        if (
            problems
            and not target.elsewhere
            and hooks.commands(context.settings, target.source, "before_restore")
        ):
            told += [f"{one.message}: a hook of before_restore must end that" for one in problems]
            problems = []
        there, manifest = path.exists(), chosen.manifest
        return FolderPlan(
            artifact=chosen.name,
            created=manifest.created if manifest else None,
            target=target,
            selection=Selection(FileList(()), (LivePlace((), path.name),)),
            changes=Changes((), (path.name,), ()) if there else Changes((path.name,), (), ()),
            replaces=there,
            notes=tuple(told),
            problems=tuple(problems),
        )

    def _told(self) -> Iterator[str]:
        """Sentences about changes of each table."""
        try:
            live, restored = self.source._live(), self.source._contents(self.chosen)
            found = [f"{name}: {why}" for name, _, why in live.differences(restored)]
            more = [f"and {len(found) - SHOWN:,} more tables"] if len(found) > SHOWN else []
            yield from [*found[:SHOWN], *more] or ["every table is the same"]
        except RefnetError as error:
            yield f"the live database cannot be compared: {error.message}"

    def _put(self, context: Context) -> RestoredFolder:
        """Prove the artifact, unpack it beside the live database, read it back, and swap."""
        chosen, target, clock, artifact = self.chosen, self.target, context.clock, SqliteArtifact(self.chosen)
        self.planned.check()
        proof = artifact.prove(Level.PROVEN, self.source.proof_options(context.progress))
        if proof.outcome is Outcome.FAILED or proof.level in {None, Level.INTACT}:
            raise RefnetError(
                f"{chosen.name} is not restored: {'; '.join(proof.reasons)}",
                "Nothing live was touched. Choose another artifact (`refnet list`).",
                Exit.DAMAGED if proof.outcome is Outcome.FAILED else Exit.FAILED,
            )
        started = clock.monotonic()
        with explain_os_errors(target.folder):
            finished = finish_interrupted(target)
            target.home.mkdir(parents=True, exist_ok=True)
            with swapping.begin(target.site(), chosen.name, clock.now(), SwapReason.RESTORED) as work:
                units = _unpacked(artifact, target, work)
                for problem in _in_use(target):
                    raise problem
                done = swapping.carry_out(work, (), units)
                with done.folder("kept") as kept:
                    replaced = any(swapping.has_previous(kept, unit) for unit in units)
                if not replaced:
                    swapping.discard(done)
        seconds = {**proof.seconds, "put in place": clock.monotonic() - started}
        return RestoredFolder(self.planned, done if replaced else None, finished, seconds)


class SqliteUndo(FolderUndo):
    """An undo of the last restore of a database of SQLite."""

    @property
    def problems(self) -> Sequence[RefnetError]:
        return tuple(_in_use(self.planned.target))


def _beside(path: Path) -> list[str]:
    """Names of files that SQLite keeps beside a database and that belong to exactly this one."""
    return [path.name + end for end in ("-journal", "-shm", "-wal")]


def _unpacked(artifact: SqliteArtifact, target: FolderTarget, work: WorkFolder) -> tuple[SwapUnit, ...]:
    """Fill the folder `fresh`; return the entries to swap, first SQLite's files beside the live database."""
    name = target.folder.name
    with work.folder("fresh") as fresh:
        artifact.unpack(name, fresh)
        with opened(name, OPEN_FILE, fresh) as handle:
            _become_like(handle, target.folder, artifact)
            rename.sync_all(fresh)
            artifact.check_written(handle)
        return (
            *(SwapUnit(one, None) for one in _beside(target.folder)),
            SwapUnit(name, rename.inode((fresh, name))),
        )


def _in_use(target: FolderTarget) -> Iterator[RefnetError]:
    """Reasons against a swap: a program has the database open, so the kernel grants no lease."""
    path = target.folder
    try:
        with open(open_file(path), "rb") as file:  # noqa: PTH123  # a handle
            for lease in (fcntl.F_WRLCK, fcntl.F_UNLCK):
                fcntl.fcntl(file, fcntl.F_SETLEASE, lease)
    except FileNotFoundError:
        for other in (path.with_name(name) for name in _beside(path)):
            if os.path.lexists(other):
                yield RefnetError(f"{other} has no database beside it", "Move it away, then retry.")
    except OSError as error:
        if error.errno == errno.EAGAIN:
            yield RefnetError(
                f"a program has {path} open", "Stop it, then retry; or restore elsewhere with --to."
            )
        elif isinstance(error, NotRegularError) or error.errno == errno.EACCES:
            yield explain(error, path)


def _become_like(handle: int, live: Path, artifact: SqliteArtifact) -> None:
    """Set owner and mode of the open new file to those of the live one, else the recorded mode and the folder's owner."""
    try:
        with opened(live, OPEN_FILE) as before:
            attributes.copy(before, handle)
    except FileNotFoundError:
        folder, manifest = live.parent.stat(), artifact.stored.manifest
        mode = str(manifest.details.get("mode")) if manifest else ""
        if os.geteuid() == 0:
            os.fchown(handle, folder.st_uid, folder.st_gid)
        os.fchmod(handle, int(mode, 8) & 0o666 if re.fullmatch("[0-7]{4}", mode) else _MODE)
