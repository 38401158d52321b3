"""An SQLite database of the settings: a file, as self-hosted programs use it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn, cast

from refnet import wiring
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FILE, NotRegularError, explain, open_file, opened
from refnet.core.formatting import size as sized
from refnet.core.glob import TableGlob
from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.source import Deviation, Finding, OpenArtifact
from refnet.recovery.sources.database.artifact.index import Table as Listed
from refnet.recovery.sources.files import attributes, rename, swapping
from refnet.recovery.sources.files.changes import SHOWN, Changes
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.selection import LivePlace, Selection
from refnet.recovery.sources.files.swap_journal import SwapReason, Unit
from refnet.recovery.sources.files.swapping import Work
from refnet.recovery.sources.files.target import FolderTarget, explain_os_errors, finish_interrupted
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.verbs.restore_files import FolderPlan, Restored
from refnet.settings import user_path
from refnet.sources import elsewhere
from refnet.sources.check_result import Line, error_line, ok
from refnet.sources.contents import LIVE, Changed, Difference, Version
from refnet.sources.folder import Folder
from refnet.sources.folder_restoring import FolderRestore, FolderUndo
from refnet.sources.restoring import Done, Request
from refnet.sources.sqlite.artifact import SqliteArtifact, SqliteMaker
from refnet.sources.sqlite.box import Contents, box, database_file

if TYPE_CHECKING:
    from refnet.recovery.sources.database.query.answer import Asker
    from refnet.sources.database_query import Answer
    from refnet.sources.database_query import Asked as Query

_MODE = 0o640


class Sqlite(Folder):
    """One file, and what SQLite has beside it, which a restore swaps as a folder does its entries."""

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
        """Return the file `path` as what is swapped, by a work folder beside it."""
        return FolderTarget(
            self.name, path.parent.resolve() / path.name, None, entire=True, swaps=self._swaps
        )

    def _target(self, to: str | None, *, merge: bool = True) -> FolderTarget:  # noqa: ARG002  # that of a folder
        if to is None:
            return self.target()
        path = user_path(to)
        is_file = "://" not in to and not path.is_dir() and not path.is_symlink()
        if why := elsewhere.of_others(self.settings, path) if is_file else "is not the path of a file":
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

    def checks(self) -> Iterator[Line]:
        try:
            yield ok(self.name, f"{self._path}, {sized(database_file(self._path).st_size)}")
        except RefnetError as error:
            yield error_line(self.name, error)

    def replaced(self) -> str:
        return str(self._path) if self.own.path and self._path.exists() else ""

    def restoring(self, context: Context, chosen: OpenArtifact, request: Request) -> FolderRestore:  # noqa: ARG002
        return SqliteRestore(self, chosen, request)

    def undoing(self, context: Context, request: Request) -> FolderUndo:  # noqa: ARG002
        return SqliteUndo(partial(self._target, request.to))

    def compare(self, context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
        found = self.live_differences(context, chosen)
        wrong = [*found.added, *(f"{one.name}: {one.why}" for one in found.changed), *found.removed]
        outcome = Outcome.FAILED if wrong else Outcome.PASSED
        return (Finding(f"tables of {self.name}", outcome, "; ".join(wrong[:SHOWN])),)

    def _live(self) -> Contents:
        with box(self._base, str(self._path), self._path) as own:
            return own.live(self._path)

    def _contents(self, chosen: OpenArtifact) -> Contents:
        """Return the list of an artifact's tables; of one without a list, read them."""
        artifact = SqliteArtifact(chosen)
        if recorded := artifact.contents():
            return recorded
        with box(self._base, chosen.name) as own:
            return own.contents(own.run("check", artifact.unpack(own.database)))

    def differences(self, context: Context, before: OpenArtifact, after: OpenArtifact) -> Difference:  # noqa: ARG002
        return self._difference(before, after.name, self._contents(after))

    def live_differences(self, context: Context, before: OpenArtifact) -> Difference:  # noqa: ARG002
        return self._difference(before, LIVE, self._live())

    def _difference(self, before: OpenArtifact, name: str, after: Contents) -> Difference:
        found = list(self._contents(before).differences(after))
        added, removed = (
            tuple(one for one, how, _ in found if how is wanted)
            for wanted in (Deviation.EXTRA, Deviation.MISSING)
        )
        changed = tuple(Changed(one, why) for one, how, why in found if how is Deviation.CHANGED)
        return Difference(self.name, before.name, name, added, changed, removed)

    def tables(self, chosen: OpenArtifact, advice: str) -> tuple[Listed, ...]:  # noqa: ARG002
        return tuple(Listed("main", one.name, (), rows=one.rows) for one in self._contents(chosen).tables)

    def files(self, chosen: OpenArtifact, advice: str) -> NoReturn:  # noqa: ARG002
        raise self.without(chosen, "files", "Read its tables with `refnet query`.")

    def browse(self, context: Context, chosen: OpenArtifact, *, trust: bool) -> NoReturn:  # noqa: ARG002
        advice = "`refnet query` reads it; so does sqlite3, after gunzip."
        raise RefnetError(f"psql cannot open {chosen.name}, a database of SQLite", advice, Exit.USAGE)

    def exactly(self, name: str) -> _Finder:
        return _Finder(self, TableGlob(name))

    def like(self, pattern: str) -> _Finder:
        return _Finder(self, TableGlob(pattern))

    @contextmanager
    def query(self, context: Context, chosen: OpenArtifact, asked: Query) -> Iterator[Answer]:  # noqa: ARG002
        from refnet.sources.database_query import Answer  # psycopg takes longer to load than the answer

        artifact, limits = SqliteArtifact(chosen), asked.limits
        with box(self._base, chosen.name) as own:
            most = {"rows": limits.rows, "bytes": limits.bytes, "seconds": limits.seconds}
            found = own.run("query", artifact.unpack(own.database), sql=asked.query, **most)
        columns, values = tuple(map(str, found["columns"])), found["rows"]
        texts = (tuple(None if one is None else str(one) for one in row) for row in values)
        objects = ((json.dumps(dict(zip(columns, row, strict=True))),) for row in values)
        cut = RefnetError(f"the answer is cut after {len(values):,} rows", "Raise --rows or --megabytes.")
        read = cast("Asker", _Read(len(values), cut if found["cut"] else None))
        yield Answer(chosen, columns, objects if asked.as_json else texts, None, read)


class SqliteRestore(FolderRestore):
    """A restore of a database of SQLite."""

    def __init__(self, source: Sqlite, chosen: OpenArtifact, request: Request) -> None:
        super().__init__(chosen, source._target(request.to), request, source.whose)
        self.source = source

    def _decided(self, context: Context) -> FolderPlan:  # noqa: ARG002
        if self.request.only or self.request.merge:
            raise RefnetError(
                "--only and --merge are for folders", "Restore it with --to, and copy from there.", Exit.USAGE
            )
        chosen, target = self.chosen, self.target
        path, manifest = target.folder, chosen.manifest
        planned = FolderPlan(
            artifact=chosen.name,
            created=manifest.created if manifest else None,
            target=target,
            only=(),
            files=FileList(()),
            listed=True,
            selection=Selection(FileList(()), (LivePlace((), path.name),)),
            changes=Changes((), (path.name,), ()) if path.exists() else Changes((path.name,), (), ()),
            entire=False,
            replaces=path.exists(),
        )
        told = () if target.elsewhere else tuple(self._told(planned))
        return replace(planned, problems=tuple(_in_use(target)), notes=told)

    def _told(self, planned: FolderPlan) -> Iterator[str]:
        """Say what changes in each table."""
        if not planned.replaces:
            return
        try:
            found = [
                f"{name}: {why}"
                for name, _, why in self.source._live().differences(self.source._contents(self.chosen))
            ]
            more = [f"and {len(found) - SHOWN:,} more tables"] if len(found) > SHOWN else []
            yield from [*found[:SHOWN], *more] or ["every table is the same"]
        except RefnetError as error:
            yield f"what is live cannot be compared: {error.message}"

    def _put(self, context: Context) -> Restored:
        """Prove the artifact, unpack it beside what is live, read it back, and swap."""
        chosen, planned, target, clock = self.chosen, self.planned, self.target, context.clock
        artifact, options = (
            SqliteArtifact(chosen),
            wiring.proof_options(context.settings, target.source, context.progress),
        )
        planned.check()
        proof = artifact.prove(Level.PROVEN, options)
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
        return Restored(planned, done if replaced else None, finished, seconds)


class SqliteUndo(FolderUndo):
    """An undo of the last restore of a database of SQLite."""

    def run(self, context: Context) -> Done:
        for problem in _in_use(self.planned.target):
            raise problem
        return super().run(context)


@dataclass(frozen=True)
class _Read:
    """How many rows were read, and why there are no more."""

    count: int
    cut: RefnetError | None


@dataclass(frozen=True)
class _Finder:
    """Finds tables by name."""

    source: Sqlite
    wanted: TableGlob

    def versions(self, artifact: OpenArtifact) -> tuple[Version, ...]:
        found = self.source._contents(artifact).tables
        return tuple(
            Version(one.name, "table", 0, one.sha256, one.rows)
            for one in found
            if self.wanted.matches("main", one.name)
        )


def _beside(path: Path) -> list[str]:
    """Return the names of what SQLite may have beside a database: with that of another one it is not what it was."""
    return [path.name + end for end in ("-journal", "-shm", "-wal")]


def _unpacked(artifact: SqliteArtifact, target: FolderTarget, work: Work) -> tuple[Unit, ...]:
    """Fill the folder `fresh`; return what is swapped: first what SQLite has beside the live file leaves."""
    name = target.folder.name
    with work.folder("fresh") as fresh:
        artifact.unpack(name, fresh)
        with opened(name, OPEN_FILE, fresh) as handle:
            _become_like(handle, target.folder, artifact)
            rename.sync_all(fresh)
            artifact.check_written(handle)
        return (*(Unit(one, None) for one in _beside(target.folder)), Unit(name, rename.inode((fresh, name))))


def _in_use(target: FolderTarget) -> Iterator[RefnetError]:
    """Yield why nothing is swapped: a program has the database open, as the kernel knows, which then gives no lease."""
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
    """Give the open new file the owner and the rights of the live one, else those that it had and the owner of its folder."""
    try:
        with opened(live, OPEN_FILE) as before:
            attributes.copy(before, handle)
    except FileNotFoundError:
        folder, manifest = live.parent.stat(), artifact.stored.manifest
        mode = str(manifest.details.get("mode")) if manifest else ""
        if os.geteuid() == 0:
            os.fchown(handle, folder.st_uid, folder.st_gid)
        os.fchmod(handle, int(mode, 8) & 0o666 if re.fullmatch("[0-7]{4}", mode) else _MODE)
