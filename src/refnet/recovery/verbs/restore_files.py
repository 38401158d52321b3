"""Restores config or the vault: unpacked beside what is live, compared, then exchanged; the old one is kept.

Nothing live is touched before everything that is to become live was read back and compared. The exchange is
journalled (sources/files/swapping.py): a run that is killed in it is finished by the next one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FOLDER, names_in, opened
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.source import OpenArtifact, Progress, silent
from refnet.recovery.sources.files import rename, swapping
from refnet.recovery.sources.files.changes import Changes, changes
from refnet.recovery.sources.files.contents import NoRoomError, Nowhere, read_archive
from refnet.recovery.sources.files.extract import extract
from refnet.recovery.sources.files.files_proof import list_of
from refnet.recovery.sources.files.listing import FileList
from refnet.recovery.sources.files.member_names import ArchiveError, show, some
from refnet.recovery.sources.files.selection import Selection, select
from refnet.recovery.sources.files.swap_journal import Unit, Why
from refnet.recovery.sources.files.swapping import Work
from refnet.recovery.sources.files.target import FolderTarget, settle, told
from refnet.recovery.sources.files.tree import differences, read_tree
from refnet.recovery.sources.files.unpack import FreshFolder, NamesMergeError, Owner, recorded

#: Of a file system, kept free beside what a restore needs, in bytes.
_SPARE = 1 << 20
_BLOCK = 4096

HINTS = {
    SourceName.CONFIG: "Restart the services that read it: docker compose down && docker compose up -d",
    SourceName.OBSIDIAN: "Open the vault anew in Obsidian, so that it reads what is there now.",
}


@dataclass(frozen=True)
class Plan:
    """What a restore would do.

    `only`: the one file or folder that is restored. `files`: all that the artifact holds; `listed`: whether its list says so, or only a reading of it. `changes`:
    what is added, changed and removed. `whole`: the folder itself is exchanged. `replaces`: something is live
    there. `problems` stop it; `notes` are to be known. `damage`: what a check found wrong with the artifact, else "".
    """

    artifact: str
    created: datetime | None
    place: FolderTarget
    only: str | None
    files: FileList
    listed: bool
    selection: Selection
    changes: Changes
    whole: bool
    replaces: bool
    notes: tuple[str, ...] = ()
    problems: tuple[RefnetError, ...] = ()
    damage: str = ""

    def check(self) -> None:
        """RefnetError where something stops the plan."""
        if self.problems:
            raise self.problems[0]


@dataclass(frozen=True)
class Restored:
    """What a restore did. `kept`: the work folder that holds what was live, where something was."""

    plan: Plan
    kept: Work | None
    notes: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        return HINTS[self.plan.place.source]


def plan(held: OpenArtifact, place: FolderTarget, only: str | None = None) -> Plan:
    """What a restore of `held` into `place` would do; reads, and changes nothing.

    only: the path of one file or folder of the artifact.
    """
    with archive_told(held), told(place.folder):
        files, listed = files_of(held)
        selection = select(files, place, only)
        whole = only is None and place.whole
        live = selection.live(whole=whole)
    notes = [*selection.notes, *map(_waiting, place.unfinished())]
    strangers = place.strangers()
    notes += [
        f"{path} is of a restore that {place.swaps} does not know; it is left alone" for path in strangers
    ]
    if not listed:
        notes.append("could not verify: the archive has no list of files that says what it should hold")
    if live.other:
        notes.append(f"live, and neither compared nor restored: {some(live.other)}")
    return Plan(
        held.name,
        held.manifest.created if held.manifest else None,
        place,
        only,
        files,
        listed,
        selection,
        changes(live.files, selection.files),
        whole,
        any(one.path != "." for one in live.files.files) or bool(live.other),
        tuple(notes),
        (*map(_unfinished_before, filter(_has_journal, strangers)), *_problems(place, selection)),
    )


def restore(
    held: OpenArtifact,
    planned: Plan,
    *,
    lock: Callable[[], AbstractContextManager[None]],
    now: Callable[[], datetime],
    clock: Callable[[], float],
    progress: Progress = silent,
) -> Restored:
    """Do what `planned` says of `held`; where nothing differs, nothing.

    What an earlier restore left that was cut off is settled first, and then it is planned again. RefnetError where
    something is wrong: then what is live is as it was.
    """
    place = planned.place
    with lock(), told(place.folder):
        settled = settle(place)
        decided = plan(held, place, planned.only) if settled else planned
        decided.check()
        if not decided.changes:
            return Restored(decided, None, settled)
        (place.home if decided.whole else place.folder).mkdir(parents=True, exist_ok=True)
        with swapping.begin(place.site(), decided.artifact, now(), Why.RESTORED) as work:
            kept, seconds = _carry_out(held, decided, work, clock, progress)
    return Restored(decided, kept, settled, seconds)


def _carry_out(
    held: OpenArtifact,
    decided: Plan,
    work: Work,
    clock: Callable[[], float],
    progress: Progress,
) -> tuple[Work | None, dict[str, float]]:
    """Unpack, compare, exchange; what keeps the previous version, where there was one, and seconds by phase.

    Before the exchange, whatever fails leaves no trace.
    """
    started = clock()
    with archive_told(held):
        _unpack(held, decided, work, progress)
        unpacked = clock()
        with ThreadPoolExecutor(1) as beside:
            synced = beside.submit(rename.sync_all, work.handle)
            _compare(decided, work)
            synced.result()
    compared = clock()
    done = swapping.carry_out(work, _base(decided), _units(decided, work))
    with done.folder("kept") as kept:
        anything = bool(names_in(kept))
    if not anything:
        swapping.discard(done)
    seconds = {"unpack": unpacked - started, "compare": compared - unpacked, "exchange": clock() - compared}
    return (done if anything else None), seconds


@contextmanager
def archive_told(held: OpenArtifact) -> Iterator[None]:
    """Tell what is wrong with an archive, or with where it goes, as a RefnetError; it is damaged, or does not fit."""
    try:
        yield
    except NoRoomError as error:
        raise RefnetError(
            f"{held.name} is not restored: {error}", "Free some space there; what is live was not touched."
        ) from error
    except NamesMergeError as error:
        raise RefnetError(
            f"{held.name} is not restored: {error}",
            "Restore to a folder on a file system that keeps such names apart; what is live was not touched.",
        ) from error
    except ArchiveError as error:
        raise RefnetError(
            f"{held.name} is not restored: {error}",
            "Nothing live was touched. Choose another artifact (`refnet list`).",
            Exit.DAMAGED,
        ) from error


def files_of(held: OpenArtifact) -> tuple[FileList, bool]:
    """What `held` holds, and whether its list says so; without one the archive is read."""
    if found := list_of(held):
        return found, True
    with held.open() as archive:
        return read_archive(archive, Nowhere()), False


def _waiting(work: Work) -> str:
    what = f"a restore of {work.journal.artifact}" if work.journal else "a restore"
    return f"{what} was cut off ({show(work.path.name)}): the next restore or undo settles it first"


def _has_journal(stranger: Path) -> bool:
    """Whether an earlier RefNet, which kept its journal in the work folder, was cut off in its swap."""
    return os.path.lexists(stranger / "exchange.json")


def _unfinished_before(stranger: Path) -> RefnetError:
    return RefnetError(
        f"{stranger / 'exchange.json'} tells of a restore by an earlier RefNet that was cut off, or was put there",
        "Nothing is done by it. What is missing of the live folder lies in the folders fresh and kept beside that "
        "file: move it back, move the work folder away, then run this again.",
    )


def _problems(place: FolderTarget, selection: Selection) -> Iterator[RefnetError]:
    nearest = next(path for path in (place.home, *place.home.parents) if path.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield RefnetError(
            f"this user may not write in {show(str(nearest))}", "Run it as the user that owns the folder."
        )
    need = sum(-(-one.size // _BLOCK) * _BLOCK + _BLOCK for one in selection.wanted) + _SPARE
    system = os.statvfs(nearest)
    if (free := system.f_bavail * system.f_frsize) < need:
        yield RefnetError(
            f"the copy needs about {need >> 20} MiB in {show(str(nearest))}, and {free >> 20} MiB are free",
            "Free some there; the live files stay until the copy is compared.",
        )
    if selection.folder.exists() and selection.folder.stat().st_dev != nearest.stat().st_dev:
        yield RefnetError(
            f"{show(str(selection.folder))} lies on another file system than {show(str(nearest))}",
            "Unpack the file elsewhere with tar, and copy it there.",
        )
    exchanged = [selection.folder / name for name in (*selection.names, *selection.gone)] or [place.folder]
    for path in exchanged:
        for mount in [path] * (rename.is_mount_point(path) and path != place.folder) + rename.mounts_below(
            path
        ):
            yield RefnetError(
                f"something is mounted at {show(str(mount))}, so it cannot be exchanged",
                "Unmount it for the restore, or restore the other entries with --only.",
            )


def _unpack(held: OpenArtifact, decided: Plan, work: Work, progress: Progress) -> None:
    """Fill the work folder's `fresh`."""
    selection, place = decided.selection, decided.place
    owner = _owner(decided)
    with _into(decided, work) as root, held.open() as archive:
        fresh = FreshFolder(root, owner)
        try:
            extract(archive, decided.files, selection.wanted, selection.prefix, fresh, progress)
            fresh.finish()
        finally:
            fresh.close()
        if decided.whole and "." not in decided.files.by_path:
            live = place.folder.stat() if place.folder.exists() else None
            os.fchmod(root, stat.S_IMODE(live.st_mode) if live else 0o755)
            if live and os.geteuid() == 0:
                os.fchown(root, live.st_uid, live.st_gid)


@contextmanager
def _into(decided: Plan, work: Work) -> Iterator[int]:
    """The open folder that is filled: `fresh`, or the new folder in it that becomes the live one."""
    with work.folder("fresh") as fresh:
        if not decided.whole:
            yield fresh
            return
        name = decided.place.folder.name
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fresh)
        with opened(name, OPEN_FOLDER, fresh) as root:
            yield root


def _owner(decided: Plan) -> Owner | None:
    """Whom the files are given to, where we may: the recorded owner; of an archive of nobody's, the folder's."""
    if os.geteuid():
        return None
    if decided.listed:
        return recorded
    nearest = next(path for path in (decided.place.folder, *decided.place.folder.parents) if path.exists())
    status = nearest.stat()
    return lambda _member: (status.st_uid, status.st_gid)


def _compare(decided: Plan, work: Work) -> None:
    """Read back what was unpacked; ArchiveError where it is not what the artifact holds."""
    with _into(decided, work) as root:
        found = list(islice(differences(decided.selection.files, read_tree(root)), 5))
    if found:
        raise ArchiveError(f"what was unpacked is not what it holds: {'; '.join(found)}")


def _base(decided: Plan) -> tuple[str, ...]:
    """The names that lead from the folder that holds the work folder to that of the live entries."""
    folder = decided.place.home if decided.whole else decided.selection.folder
    return folder.relative_to(decided.place.home).parts


def _units(decided: Plan, work: Work) -> tuple[Unit, ...]:
    names = (decided.place.folder.name,) if decided.whole else decided.selection.names
    with work.folder("fresh") as fresh:
        comes = tuple(Unit(name, rename.inode((fresh, name))) for name in names)
    return (*comes, *(Unit(name, None) for name in decided.selection.gone))
