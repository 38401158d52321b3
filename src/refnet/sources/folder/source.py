"""A folder of the settings."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from refnet import wiring
from refnet.catalog.artifact import Finding, Maker, OpenArtifact
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Outcome
from refnet.catalog.retention import Listing, PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import HalfMade
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, explained, names_in, nearest, opened, resolved
from refnet.core.formatting import size, some
from refnet.core.member_names import shown_path
from refnet.core.trust import open_folder
from refnet.settings import Settings, user_path
from refnet.sources.base import Permits, Source
from refnet.sources.check_result import CheckLine, error, error_line, ok, warning, writable
from refnet.sources.contents import Artifact, ArtifactDifference, Finder
from refnet.sources.folder import files_artifact
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.files_maker import FilesMaker
from refnet.sources.folder.folder_restore import FolderRestore, FolderUndo
from refnet.sources.folder.listing import FileKind, FileList
from refnet.sources.folder.scope import (
    EVERYTHING,
    ExcludedEntries,
    Scope,
    entries_of,
    everything_excluded,
    listed_and_excluded,
    listed_names,
    parse_entries,
    present,
)
from refnet.sources.folder.target import (
    FolderTarget,
    finish_interrupted,
    finished,
    half_made,
    previous_folders,
    target_of,
)
from refnet.sources.folder.walk import runs, walk
from refnet.sources.restored_places import of_others
from refnet.sources.restoring import RestoreRequest, take_over
from refnet.store.local import LocalStore

#: The time limit of the search for unreadable files, in seconds.
_WALK_SECONDS = 20.0
_NO_LIST = "another program made the archive, so it has no list of files to compare with"


class Folder(Source):
    """A folder, or some of its entries."""

    noun: ClassVar[str] = "folder"
    called: ClassVar[str] = "a folder"
    options: ClassVar[str] = "folders"
    contains: ClassVar[str] = "files"
    has_path: ClassVar[bool] = True
    priority: ClassVar[int] = 7

    def what(self) -> str:
        return str(self.own.path or "")

    def reached(self) -> str:
        if self.own.path is None or not self.own.path.is_dir():
            raise RefnetError(
                f"{self.own.path} is not a folder", f"Create it, or set {self.own.key_of('path')}."
            )
        return self.what()

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    @property
    def scope(self) -> Scope:
        """The part of the folder that is backed up."""
        return Scope(None, self.own.exclude, bool(self.own.one_file_system))

    def target(self) -> FolderTarget:
        """The live folder; RefnetError if not configured."""
        own = self.own
        if own.path is None:
            raise wiring.not_configured(self.settings, self.name)
        listed = listed_names(parse_entries(own.entries)) if own.entries else None
        return target_of(self.name, own.path, listed, self._swaps, self.scope)

    @staticmethod
    def opened(stored: OpenArtifact) -> Artifact:
        return FilesArtifact(stored)

    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has none
        into: LocalStore | None = None,
        full: bool = False,  # noqa: ARG002  # it is always whole
    ) -> Maker:
        own = self.own
        if own.path is None:
            raise wiring.not_configured(self.settings, self.name)
        return FilesMaker(
            name=self.name,
            folder=own.path,
            entries=parse_entries(own.entries) if own.entries else None,
            swaps=self._swaps,
            jobs=jobs or self.settings.jobs,
            last=partial(self._last, into or wiring.store(self.settings)),
            scope=self.scope,
        )

    def _last(self, store: LocalStore) -> OpenArtifact | None:
        """Newest complete artifact with this machine's identity of the source."""
        entry = Catalog.of(store.entries(self.name)).about(self.whose(), self.name).newest_complete(self.name)
        return store.artifact(entry) if entry else None

    def check_request(self, request: RestoreRequest) -> None:
        if request.to is None:
            self.target()

    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> FolderRestore:  # noqa: ARG002
        return FolderRestore(chosen, self._target(request.to, merge=request.merge), request, self.whose)

    def undoing(self, context: Context, request: RestoreRequest) -> FolderUndo:  # noqa: ARG002
        return FolderUndo(partial(self._target, request.to))

    def _target(self, to: str | None, *, merge: bool = True) -> FolderTarget:
        if to is not None:
            return folder_at(self.settings, self.name, to, merge=merge)
        live = self.target()
        if self.own.path is not None:
            _check_links(self.own.path, live.folder)
        return live

    def occupies(self, folder: Path) -> bool:
        live = self.target()
        inside = folder.relative_to(live.folder).parts if folder.is_relative_to(live.folder) else None
        return live.folder.is_relative_to(folder) or bool(
            inside and (live.names is None or inside[0] in live.names)
        )

    def replaced(self) -> str:
        if self.own.path is None:
            return ""
        folder = self.target().folder
        return str(folder) if folder.is_dir() and any(folder.iterdir()) else ""

    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:  # noqa: ARG002
        work = self.restoring(context, chosen, RestoreRequest(named=True))
        work.plan(context)
        done = work.restore(context, work.commands())  # the stage has asked for them, see Setup.commands
        return [f"{done.plan.target.folder} is restored from {chosen.name}"]

    def resumed(self, context: Context, chosen: OpenArtifact, permits: Permits, token: str) -> bool:  # noqa: ARG002
        with context.restore_lock(self.name):
            finish_interrupted(self.target())
            try:
                found = self.compare(context, chosen, permits)
            except RefnetError:  # nothing is there, or nothing that can be read: it is restored
                return False
            if any(one.outcome is Outcome.FAILED for one in found):
                return False
            take_over(context, self.name, chosen)
        return True

    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:  # noqa: ARG002
        planned = self.restoring(context, chosen, RestoreRequest()).plan(context)
        found, what = planned.changes, f"files of {self.name}"
        counts = f"{len(found.added)} missing, {len(found.changed)} changed, {len(found.removed)} more"
        findings = (Finding(what, Outcome.FAILED if found else Outcome.PASSED, counts if found else ""),)
        if planned.listed:
            return findings
        return (*findings, Finding(f"list of {what}", Outcome.UNVERIFIED, _NO_LIST))

    def checks(self) -> Iterator[CheckLine]:
        if self.own.path is None or self.name not in wiring.configured(self.settings):
            yield ok(self.name, "not configured")
            return
        yield from _checked(self.settings, self.target())

    def files(self, chosen: OpenArtifact, advice: str) -> tuple[FilesArtifact, FileList, bool]:  # noqa: ARG002
        return files_artifact.files_of(chosen)

    def exactly(self, name: str) -> Finder:
        return files_artifact.exactly(self.name, name)

    def like(self, pattern: str) -> Finder:
        return files_artifact.like(pattern)

    def differences(
        self,
        context: Context,  # noqa: ARG002
        before: OpenArtifact,
        after: OpenArtifact,
    ) -> ArtifactDifference:
        return files_artifact.archive_differences(before, after)

    def live_differences(self, context: Context, before: OpenArtifact) -> ArtifactDifference:  # noqa: ARG002
        return files_artifact.live_differences(before, self.target())

    def previous(self) -> tuple[Listing, ...]:
        return (self._previous,)

    def _previous(self) -> Iterable[PreviousVersion]:
        live = self.target() if self.own.path else None
        return previous_folders(self._swaps, self.name, live)

    def recorded(self) -> tuple[datetime, ...]:
        return tuple(one.journal.at for one in finished(self._swaps, self.name))

    def half_made(self) -> Iterable[HalfMade]:
        works = half_made(self._swaps, self.name)
        return [HalfMade(self.name, str(one.path), one.journal.at) for one in works]

    @property
    def _swaps(self) -> Path:
        """The folder with the journals of restores."""
        return self.settings.home / "swaps"


def _checked(settings: Settings, target: FolderTarget) -> Iterator[CheckLine]:
    """Check the live folder of a source: its entries, and access for backup and restore."""
    source = target.source
    folder = settings.of(source).path or target.folder
    scope = target.live_scope
    with ExitStack() as stack:
        root = open_folder(folder)
        stack.callback(os.close, root)
        names = [name for name in names_in(root) if name not in target.own]
        if listed := settings.of(source).entries:
            scope = scope.of(present(parse_entries(listed), root)[0])
        wrong = [*_covered(source, folder, scope, names), *_walked(source, folder, root, scope)]
        wrong += _large(source, root, scope, settings.left_out_percent)
    if not writable(target.home):
        hint = "A restore must run as its owner or as root."
        wrong.append(warning(source, f"this user cannot restore: {target.home} is not writable", hint))
    if target.unfinished():
        hint = f"`refnet undo {source}` or a restore finishes it."
        wrong.append(warning(source, "a restore was interrupted", hint))
    yield from wrong or (ok(source, str(folder)),)


def _covered(source: SourceName, folder: Path, scope: Scope, names: list[str]) -> Iterator[CheckLine]:
    """Check `names`, the entries of `folder`, against the settings."""
    if not any(scope.only is None or name in scope.only for name in names):
        says = (
            f"{folder} is empty" if scope.only is None else f"{folder} has no entry of {entries_of(source)}"
        )
        yield error(source, says, "Is it mounted? If it should be empty, put one file into it.")
    if excluded := listed_and_excluded(scope, scope.only or ()):
        hint = "Remove it from the entries, or the rule from exclude."
        yield error(source, f"exclude leaves out {some(excluded, 3)}, which {entries_of(source)} lists", hint)


def _large(source: SourceName, root: int, scope: Scope, most: int) -> Iterator[CheckLine]:
    """Check whether the rules exclude more than `most` percent of the bytes in the open folder `root`."""
    if not scope.exclude:
        return
    end, left_out = time.monotonic() + _WALK_SECONDS, ExcludedEntries(paths=[])
    inside = _bytes(root, scope, end, left_out)
    outside = left_out.bytes
    for path in left_out.paths or ():
        with suppress(OSError), opened(path, OPEN_FOLDER, root) as folder:
            outside += _bytes(folder, EVERYTHING, end)
    if outside * 100 > most * (inside + outside):
        says = f"exclude leaves out {size(outside)} of {size(inside + outside)}"
        yield warning(source, says, "Check the rules with `refnet show`, or raise left_out.percent.")


def _bytes(root: int, scope: Scope, end: float, left_out: ExcludedEntries | None = None) -> int:
    """Total size of the files in the open folder `root` found until `end`."""
    total = 0
    for run in runs(root, scope, left_out):
        for name in run.names:
            with suppress(OSError):
                found = os.stat(name, dir_fd=run.folder, follow_symlinks=False)
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if time.monotonic() > end:
            break
    return total


def _walked(source: SourceName, folder: Path, root: int, scope: Scope) -> Iterator[CheckLine]:
    """Find what a backup of the open folder `root` cannot read, and what the rules exclude."""
    end, unreadable, left_out, any_file = time.monotonic() + _WALK_SECONDS, [], ExcludedEntries(), False
    for one in walk(root, scope, left_out):
        if time.monotonic() > end:
            yield warning(source, "the search for unreadable files was cut off", "A backup reports them.")
            break
        any_file |= one.kind is FileKind.FILE
        of_file = one.kind is FileKind.FILE and not os.access(one.name, os.R_OK, dir_fd=one.folder)
        if of_file or one.error:
            unreadable.append(one.path)
    if unreadable:
        hint = "Make them readable for this user, or run as their owner."
        yield error(source, f"cannot be read: {some(sorted(unreadable), 3)}", hint)
    if left_out and not any_file:
        yield error_line(source, everything_excluded(source, folder))


def folder_at(settings: Settings, source: SourceName, asked: str, *, merge: bool) -> FolderTarget:
    """Target folder for `--to`; RefnetError (USAGE) if nothing may be restored there.

    merge: allow a folder with content.
    """
    named = user_path(asked)
    if "://" in asked:
        raise _refused(named, f"is a URL, and {source} is a folder", "Name a new or empty folder.")
    with explained(named):
        if named.is_symlink():
            raise _refused(named, "is a link", "Name the folder that it leads to.")
        folder = resolved(named)
        above = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        if not above.is_dir():
            raise _refused(above, "is not a folder", "Name a new or empty folder.")
        if why := of_others(settings, folder):
            raise _refused(folder, why, "Name a folder of its own.")
        if not merge and folder.is_dir() and any(folder.iterdir()):
            raise _refused(folder, "is not empty", "Name a new or empty folder, or add to it with --merge.")
    target = target_of(source, folder, None, settings.home / "swaps")
    return replace(target, elsewhere=True)


def _check_links(named: Path, folder: Path) -> None:
    """RefnetError if a link of another user leads from the path `named` of the settings to `folder`; see `open_folder`."""
    with explained(named), ExitStack() as stack:
        handle = open_folder(nearest(named))
        stack.callback(os.close, handle)
        if not os.path.samestat(os.fstat(handle), os.lstat(nearest(folder))):
            raise RefnetError(f"{named} was replaced meanwhile", "Nothing live was touched: retry.")


def _refused(folder: Path, why: str, hint: str) -> RefnetError:
    return RefnetError(f"--to: {shown_path(folder)} {why}", hint, Exit.USAGE)
