"""Restores a folder: unpack beside the live one, compare, swap; keep the previous version.

Nothing live is touched before all new files were read back and compared. The swap is journaled
(`swapping.py`): the next run finishes one that is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from refnet.catalog.artifact import Progress, silent
from refnet.catalog.manifest import utc
from refnet.catalog.source_name import SourceName
from refnet.core import attributes
from refnet.core.clock import Clock, rounded
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, descended, names_in, nearest, opened
from refnet.core.member_names import ArchiveError, show, shown_path, some
from refnet.sources.folder import merging, rename, swapping
from refnet.sources.folder.archive_reader import extract
from refnet.sources.folder.files_artifact import FilesArtifact, restore_errors
from refnet.sources.folder.listing import FileList
from refnet.sources.folder.merging import Merge
from refnet.sources.folder.scope import Unheld
from refnet.sources.folder.selection import LivePlace, Selection, against_live
from refnet.sources.folder.swap_journal import SwapReason, SwapUnit
from refnet.sources.folder.swapping import WorkFolder
from refnet.sources.folder.target import (
    FolderTarget,
    explain_os_errors,
    finish_interrupted,
    own_work_folders,
)
from refnet.sources.folder.tree import Changes, Tree, changes, differences
from refnet.sources.folder.unpack import FreshFolder, carry_over

#: Bytes that stay free on the file system of a restore.
_SPARE = 1 << 20
_BLOCK = 4096

_HINTS = {
    SourceName.CONFIG: "Restart the services that read it: docker compose down && docker compose up -d",
    SourceName.OBSIDIAN: "Reopen the vault in Obsidian, so that it reads the restored files.",
}


@dataclass(frozen=True)
class FolderPlan:
    """The plan of a restore."""

    artifact: str
    created: datetime | None
    target: FolderTarget
    selection: Selection
    #: The changes to what is live.
    changes: Changes
    #: True if something live is replaced.
    replaces: bool
    #: The files and folders, or patterns of them, that are restored; empty: everything.
    only: tuple[str, ...] = ()
    #: The list of all files of the artifact.
    files: FileList = FileList(())
    #: True if `files` is the artifact's own list, False if the archive was read for it.
    listed: bool = True
    #: True if the folder itself is swapped.
    entire: bool = False
    notes: tuple[str, ...] = ()
    #: What prevents the restore.
    problems: tuple[RefnetError, ...] = ()
    #: What a check found wrong with the artifact, or "".
    damage: str = ""
    #: The paths of what the rules of `exclude` leave out of the live folder: it stays as it is.
    excluded: tuple[str, ...] = ()
    #: The decisions of a merge; None: what is live is replaced.
    merge: Merge | None = None

    def check(self) -> None:
        """Raise RefnetError if something prevents the restore."""
        if self.problems:
            raise self.problems[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact,
            "damage": self.damage,
            "created": utc(self.created) if self.created else None,
            "folder": shown_path(self.target.folder),
            "replaces": self.replaces and bool(self.changes),
            **self.changes.to_json(),
            "excluded": len(self.excluded),
            **({"merge": self.merge.to_json()} if self.merge else {}),
            "notes": list(self.notes),
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True)
class RestoredFolder:
    """The result of a restore."""

    plan: FolderPlan
    #: The work folder with the previous version, if there was one.
    previous: WorkFolder | None
    notes: tuple[str, ...]
    #: By phase.
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        general = "Reopen the files in the programs that use them."
        return "" if self.plan.target.elsewhere else _HINTS.get(self.plan.target.source, general)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.plan.to_json(),
            "done": bool(self.plan.changes),
            "settled": list(self.notes),
            "kept": shown_path(self.previous.previous_folder) if self.previous else None,
            "seconds": rounded(self.seconds),
            "hint": self.hint,
        }


def plan(
    artifact: FilesArtifact, target: FolderTarget, only: Sequence[str] = (), *, merge: bool = False
) -> FolderPlan:
    """Plan a restore of `artifact` into `target`; change nothing.

    Args:
        only: paths or patterns of files and folders in the artifact; empty: everything.
        merge: add missing files, replace older ones, delete nothing.
    """
    with restore_errors(artifact.name), explain_os_errors(target.folder):
        single = only[0].removeprefix(f"{target.folder}/") if len(only) == 1 and not merge else ""
        files, listed = artifact.files_at(single) if single else artifact.files()
        selection, live, merged = (
            merging.selected(files, target, only) if merge else (*against_live(files, target, only), None)
        )
    unknown = target.unknown_folders()
    return FolderPlan(
        artifact=artifact.name,
        created=artifact.stored.manifest.created if artifact.stored.manifest else None,
        target=target,
        only=tuple(only),
        files=files,
        listed=listed,
        selection=selection,
        changes=changes(live.files, selection.files, owners=os.geteuid() == 0),
        entire=target.entire and not only and not merge,
        excluded=live.excluded,
        replaces=any(one.path != "." for one in live.files.files) or bool(live.other),
        notes=(*selection.notes, *_notes(target, unknown, files, live, listed=listed)),
        problems=(*_old_journals(unknown), *_problems(target, selection)),
        merge=merged,
    )


def _notes(
    target: FolderTarget, unknown: Sequence[Path], files: FileList, live: Tree, *, listed: bool
) -> Iterator[str]:
    """Sentences about earlier restores, and about what is not compared or not restored."""
    yield from map(_pending, target.unfinished())
    for path in unknown:
        yield f"{path} belongs to a restore without a record in {target.swaps}; it was not changed"
    if not listed:
        yield "could not verify: the archive has no list of files to be compared with"
    if any(one.acl is None for one in files.files[:1]) and any(
        one.acl or one.xattrs for one in live.files.files
    ):
        yield "an earlier version made it without ACLs and extended attributes: a restore sets none"
    if live.other:
        yield f"live, and neither compared nor restored: {some(live.other)}"


def restore(
    artifact: FilesArtifact,
    planned: FolderPlan,
    clock: Clock,
    progress: Progress = silent,
) -> RestoredFolder:
    """Carry out the plan under the lock of the source; nothing happens without differences.

    Interrupted restores are finished first; then it is planned again. On RefnetError, live files are unchanged.
    """
    target = planned.target
    with explain_os_errors(target.folder):
        finished = finish_interrupted(target)
        again = partial(plan, artifact, target, planned.only, merge=planned.merge is not None)
        decided = again() if finished else planned
        decided.check()
        if not decided.changes:
            return RestoredFolder(decided, None, finished)
        (target.home if decided.entire else target.folder).mkdir(parents=True, exist_ok=True)
        with swapping.begin(target.site(), decided.artifact, clock.now(), SwapReason.RESTORED) as work:
            previous, seconds, unheld = _carry_out(artifact, decided, work, clock, progress)
    return RestoredFolder(decided, previous, (*finished, *unheld.told()), seconds)


def _carry_out(
    artifact: FilesArtifact, decided: FolderPlan, work: WorkFolder, clock: Clock, progress: Progress
) -> tuple[WorkFolder | None, dict[str, float], Unheld]:
    """Unpack, compare, swap; return the work folder with the previous version, seconds by phase, and lost metadata.

    A failure before the swap leaves no trace.
    """
    started = clock.monotonic()
    with restore_errors(artifact.name):
        unheld = _unpack(artifact, decided, work, progress)
        unpacked = clock.monotonic()
        with ThreadPoolExecutor(1) as beside:
            synced = beside.submit(rename.sync_all, work.handle)
            _compare(decided, work, unheld)
            synced.result()
    if decided.excluded:
        _carry(decided, work)
    if decided.merge:
        merging.check(decided.target.folder, decided.merge)
    if decided.target.elsewhere and not decided.merge:
        _check_empty(decided.target)
    compared = clock.monotonic()
    done = swapping.carry_out(work, _base(decided), _units(decided, work))
    with done.folder("kept") as previous:
        replaced = any(_is_kept(previous, unit, decided) for unit in done.journal.units)
    undoable = replaced or decided.merge  # an undo of a merge removes what it added
    if not undoable:
        swapping.discard(done)
    swapped = clock.monotonic() - compared
    seconds = {"unpack": unpacked - started, "compare": compared - unpacked, "exchange": swapped}
    return (done if undoable else None), seconds, unheld


def _pending(work: WorkFolder) -> str:
    return (
        f"a restore of {work.journal.artifact} was interrupted ({show(work.path.name)}): "
        "the next restore or undo finishes it first"
    )


def _old_journals(unknown: list[Path]) -> Iterator[RefnetError]:
    """Errors about interrupted swaps of earlier versions, which kept their journal in the work folder."""
    for path in unknown:
        if os.path.lexists(journal := path / "exchange.json"):
            yield RefnetError(
                f"{journal} is of an interrupted restore by an earlier RefNet, or was put there",
                "It is not used. What is missing in the live folder is in the folders fresh and kept beside that "
                "file: move it back, move the work folder away, then retry.",
            )


def _problems(target: FolderTarget, selection: Selection) -> Iterator[RefnetError]:
    above = nearest(target.home)
    if not os.access(above, os.W_OK | os.X_OK):
        yield RefnetError(
            f"this user cannot write in {show(str(above))}", "Run it as the user that owns the folder."
        )
    need = sum(-(-one.size // _BLOCK) * _BLOCK + _BLOCK for one in selection.files.files) + _SPARE
    system = os.statvfs(above)
    if (free := system.f_bavail * system.f_frsize) < need:
        yield RefnetError(
            f"the copy needs about {need >> 20} MiB in {show(str(above))}, and {free >> 20} MiB are free",
            "Free some space there; the live files stay until the copy is compared.",
        )
    for folder in dict.fromkeys(target.folder.joinpath(*one.folder) for one in selection.places):
        if folder.exists() and folder.stat().st_dev != above.stat().st_dev:
            yield RefnetError(
                f"{show(str(folder))} is on another file system than {show(str(above))}",
                "Unpack the file elsewhere with tar, and copy it there.",
            )
        elif folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            yield RefnetError(
                f"this user cannot write in {show(str(folder))}", "Run it as the user that owns the folder."
            )
    names = (*(one.path for one in selection.places), *selection.removed)
    for path in [target.folder / name for name in names] or [target.folder]:
        itself = [path] if path != target.folder and rename.is_mount_point(path) else []
        for mount in itself + rename.mounts_below(path):
            yield RefnetError(
                f"something is mounted at {show(str(mount))}, so it cannot be swapped",
                "Unmount it for the restore, or restore the other entries with --only.",
            )


def _unpack(artifact: FilesArtifact, decided: FolderPlan, work: WorkFolder, progress: Progress) -> Unheld:
    """Fill the folder `fresh` of the work folder; return metadata that its file system could not store."""
    owner = _owner(decided)
    members = tuple(
        (one.path, one._replace(uid=owner[0], gid=owner[1]) if owner else one)
        for one in decided.selection.unpacked.files
    )
    with _fresh(decided, work) as root, artifact.stored.open() as archive:
        fresh = FreshFolder(root, owners=decided.listed or owner is not None)
        try:
            extract(archive, decided.files, members, fresh, progress)
            fresh.finish()
        finally:
            fresh.close()
        if decided.entire and "." not in decided.files.by_path:
            os.fchmod(root, 0o755)
            with suppress(FileNotFoundError), opened(decided.target.folder, OPEN_FOLDER) as live:
                attributes.copy(live, root)
    return fresh.unheld


@contextmanager
def _fresh(decided: FolderPlan, work: WorkFolder) -> Iterator[int]:
    """Open the folder to fill: `fresh`, or the new live folder in it."""
    with work.folder("fresh") as fresh:
        if not decided.entire:
            yield fresh
            return
        name = decided.target.folder.name
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fresh)
        with opened(name, OPEN_FOLDER, fresh) as root:
            yield root


def _owner(decided: FolderPlan) -> tuple[int, int] | None:
    """Owner of all files if not the recorded ones: for root and a foreign archive, the live folder's."""
    if decided.listed or os.geteuid():
        return None
    status = nearest(decided.target.folder).stat()
    return status.st_uid, status.st_gid


def _compare(decided: FolderPlan, work: WorkFolder, unheld: Unheld) -> None:
    """Read back the unpacked files; ArchiveError if they differ from the artifact."""
    with _fresh(decided, work) as root:
        found = list(islice(differences(decided.selection.unpacked, root, unheld, owners=decided.listed), 5))
    if found:
        raise ArchiveError(f"the unpacked files differ from the archive: {'; '.join(found)}")


def _carry(decided: FolderPlan, work: WorkFolder) -> None:
    """Link excluded live entries into the new folder; RefnetError on failure."""
    live = decided.target.folder
    try:
        with opened(live, OPEN_FOLDER) as source, _fresh(decided, work) as root:
            carry_over(source, root, decided.excluded)
            rename.sync_all(root)
    except OSError as error:
        name = show(os.fsdecode(error.filename or live))
        raise RefnetError(
            f"{name}, which exclude leaves out, cannot be carried into the restored folder: {error.strerror}",
            "Run it as the owner of these files, or move them elsewhere; the live files were not touched.",
        ) from error


def _check_empty(target: FolderTarget) -> None:
    """RefnetError if something was put into the folder of `--to` since it was planned: nobody permits to replace it."""
    try:
        with opened(target.folder, OPEN_FOLDER) as folder:
            found = set(names_in(folder)) - own_work_folders(target.swaps, target.source, target.folder)
    except FileNotFoundError:
        return
    if found:
        raise RefnetError(
            f"{show(str(target.folder))} was filled while the restore ran",
            "Nothing there was replaced: name a new or empty folder.",
        )


def _base(decided: FolderPlan) -> tuple[str, ...]:
    """Path from the work folder's parent to the folder of the live entries."""
    folder = decided.target.home if decided.entire else decided.target.folder
    return folder.relative_to(decided.target.home).parts


def _units(decided: FolderPlan, work: WorkFolder) -> tuple[SwapUnit, ...]:
    places = (LivePlace((), decided.target.folder.name),) if decided.entire else decided.selection.places
    with work.folder("fresh") as fresh:
        new = tuple(_unit(fresh, place) for place in places)
    return (*new, *(SwapUnit(name, None) for name in decided.selection.removed))


def _unit(fresh: int, place: LivePlace) -> SwapUnit:
    with descended(fresh, place.folder) as folder:
        return SwapUnit(place.name, rename.inode((folder, place.name)), place.folder)


def _is_kept(previous: int, unit: SwapUnit, decided: FolderPlan) -> bool:
    """Whether a previous entry exists; an empty folder filled by `--to` does not count."""
    if not swapping.has_previous(previous, unit):
        return False
    if not (decided.entire and decided.target.elsewhere):
        return True
    try:
        with opened(unit.name, OPEN_FOLDER, previous) as folder:
            return bool(names_in(folder))
    except NotADirectoryError:  # somebody put a file or a link there meanwhile
        return True
