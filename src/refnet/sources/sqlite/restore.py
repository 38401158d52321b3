"""The restore of a database of SQLite, and its undo: a swap beside the live file, as of a folder's entries."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Level, Outcome
from refnet.context import Context
from refnet.core import attributes
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FILE, NotRegularError, explain, open_file, opened
from refnet.sources import hooks, source_of
from refnet.sources.folder import rename, swapping
from refnet.sources.folder.folder_restoring import FolderRestore, FolderUndo
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.restore_files import FolderPlan, RestoredFolder
from refnet.sources.folder.selection import LivePlace, Selection
from refnet.sources.folder.swap_journal import SwapReason, SwapUnit
from refnet.sources.folder.swapping import WorkFolder
from refnet.sources.folder.target import FolderTarget, explain_os_errors, finish_interrupted
from refnet.sources.folder.tree import SHOWN, Changes
from refnet.sources.restoring import RestoreRequest
from refnet.sources.sqlite.artifact import SqliteArtifact

_MODE = 0o640


class SqliteRestore(FolderRestore):
    """A restore of a database of SQLite."""

    unit = "table"

    def __init__(
        self, chosen: OpenArtifact, target: FolderTarget, request: RestoreRequest, whose: Callable[[], Whose | None],
        changes: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        """`changes` returns the changes of each live table."""
        super().__init__(chosen, target, request, whose)
        self._changes = changes

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
            only=(),
            files=FileList(()),
            listed=True,
            selection=Selection(FileList(()), (LivePlace((), path.name),)),
            changes=Changes((), (path.name,), ()) if there else Changes((path.name,), (), ()),
            entire=False,
            replaces=there,
            notes=tuple(told),
            problems=tuple(problems),
        )

    def _told(self) -> Iterator[str]:
        """Sentences about changes of each table."""
        try:
            found = list(self._changes())
            more = [f"and {len(found) - SHOWN:,} more tables"] if len(found) > SHOWN else []
            yield from [*found[:SHOWN], *more] or ["every table is the same"]
        except RefnetError as error:
            yield f"the live database cannot be compared: {error.message}"

    def _put(self, context: Context) -> RestoredFolder:
        """Prove the artifact, unpack it beside the live database, read it back, and swap."""
        chosen, target, clock, artifact = self.chosen, self.target, context.clock, SqliteArtifact(self.chosen)
        self.planned.check()
        options = source_of(context.settings, target.source).proof_options(context.progress)
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
        return RestoredFolder(self.planned, done if replaced else None, finished, seconds)


class SqliteUndo(FolderUndo):
    """An undo of the last restore of a database of SQLite."""

    @property
    def problems(self) -> Sequence[RefnetError]:  # type: ignore[override]
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
