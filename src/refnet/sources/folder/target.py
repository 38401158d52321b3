"""The live folder of a source, and what restores left of it: interrupted work folders, previous versions."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.retention import PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.core.member_names import MAX_PART, show, some
from refnet.sources.folder import rename, swap_journal, swapping
from refnet.sources.folder.scope import EVERYTHING, Scope
from refnet.sources.folder.swap_journal import Swap, SwapState
from refnet.sources.folder.swapping import Site, WorkFolder

#: The name of a work folder after its source: time, mark of the live folder (none in earlier versions), number.
_WORK = re.compile(r"\d{8}_\d{6}(?:-([0-9a-f]{8}))?(?:_\d{1,3})?")
_STAMP = re.compile(r"-(\d{8}_\d{6})(?:[-_]|$)")
_NO_JOURNAL = "unknown: no journal of this user names it; check it, then remove it yourself"


@dataclass(frozen=True)
class FolderTarget:
    """The live folder of a source."""

    source: SourceName
    #: Its path, with all links resolved.
    folder: Path
    #: The entries that may be swapped; None: all.
    names: frozenset[str] | None
    #: True if the folder itself is swapped, by a work folder beside it; False if its entries are, by one in it.
    entire: bool
    #: The folder of the journals.
    swaps: Path
    #: What is compared and restored of the folder, or of its entries.
    scope: Scope = EVERYTHING
    #: True for a folder that is not the live one of the source (--to).
    elsewhere: bool = False

    @cached_property
    def own(self) -> frozenset[str]:
        """The names of RefNet's work folders in the folder."""
        with explain_os_errors(self.swaps):
            return own_work_folders(self.swaps, self.source, self.folder)

    @property
    def live_scope(self) -> Scope:
        """Scope for comparison and restore, without RefNet's work folders."""
        return replace(self.scope, own=self.own)

    @property
    def home(self) -> Path:
        """The parent of new work folders."""
        return self.folder.parent if self.entire else self.folder

    def site(self, *, beside: bool | None = None) -> Site:
        """Location for a new swap; `beside`: where an earlier one was."""
        return Site(self.swaps, self.source, self.folder, self.entire if beside is None else beside)

    def previous_versions(self) -> list[WorkFolder]:
        """Return the finished swaps, which keep previous versions, oldest first."""
        return finished(self.swaps, self.source, self.folder)

    def unfinished(self) -> list[WorkFolder]:
        """Return the interrupted swaps."""
        return half_made(self.swaps, self.source, self.folder)

    def unknown_folders(self) -> list[Path]:
        """Work folders without a journal, oldest first: from another user or an earlier version."""
        known = {work.path for work in _works(self.swaps, self.source, self.folder)}
        with explain_os_errors(self.folder):
            found = [path for home in (self.folder.parent, self.folder) for path in self._work_folders(home)]
        return sorted((path for path in found if path not in known), key=lambda path: path.name)

    def _work_folders(self, home: Path) -> Iterator[Path]:
        """Yield the entries of `home` that are named like a work folder of this target."""
        prefix, mark = f"{HIDDEN_PREFIX}{self.source}-", self.site().mark
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in home.iterdir():
                name = path.name
                made = _WORK.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
                if made and (
                    made[1] == mark or (not made[1] and _folder_name(path) in {self.folder.name, ""})
                ):
                    yield path


def target_of(
    source: SourceName, folder: Path, names: frozenset[str] | None, swaps: Path, scope: Scope = EVERYTHING
) -> FolderTarget:
    """Return the target of `source`; `folder` need not exist."""
    folder = folder.resolve()
    nearest = next(path for path in (*folder.parents, folder) if path.exists())
    entire = names is None and not rename.is_mount_point(folder) and os.access(nearest, os.W_OK | os.X_OK)
    return FolderTarget(source, folder, names, entire, swaps, scope)


def finish_interrupted(target: FolderTarget) -> tuple[str, ...]:
    """Finish or roll back interrupted restores; return sentences about them."""
    sentences = []
    for work in sorted(target.unfinished(), key=lambda work: work.swap.state is SwapState.BEGUN):
        if swap_journal.find(target.swaps, work.swap.name) is None:
            continue  # it was removed with the one before
        with explain_os_errors(work.path):
            sentences.append(_finish(work.swap))
    for path in target.unknown_folders():
        with suppress(OSError):  # empty if a run was killed right after it created it
            if path.lstat().st_uid == os.geteuid():
                path.rmdir()
    return tuple(sentences)


def own_work_folders(swaps_folder: Path, source: SourceName, live: Path) -> frozenset[str]:
    """Names of RefNet's work folders in the folder `live`: those with a journal's token.

    RefnetError if a journal cannot be trusted.
    """
    return frozenset(
        swap.journal.work
        for swap in swap_journal.swaps(swaps_folder, source, live)
        if not swap.journal.beside and _is_own(swap)
    )


def _is_own(swap: Swap) -> bool:
    try:
        with swapping.reopened(swap, lock=False):
            return True
    except (RefnetError, OSError):
        return False


def interrupted_restores(swaps_folder: Path, source: SourceName, folder: Path) -> tuple[str, ...]:
    """Sentences for a backup about restores of `folder` interrupted during their swap."""
    try:
        found = swap_journal.swaps(swaps_folder, source, folder.resolve())
    except RefnetError as error:
        return (f"could not check for an interrupted restore: {error.message}",)
    except OSError as error:
        return (f"could not check for an interrupted restore: {swaps_folder}: {error.strerror}",)
    return tuple(
        f"a restore of {show(swap.journal.artifact)} was interrupted: parts of this backup may be older or newer "
        f"than the rest, until a restore or `refnet undo {source}` finishes it"
        for swap in found
        if swap.state is SwapState.SWAPPING
    )


def _finish(swap: Swap) -> str:
    journal = swap.journal
    if swap.state is SwapState.BEGUN:
        swapping.remove(swap)
        return f"removed the files of an interrupted restore ({journal.work}); nothing live had been touched"
    with swapping.reopened(swap) as work:
        swapping.finish(work)
    if journal.back:
        return f"rolled back a failed restore of {journal.artifact}"
    return f"finished an interrupted restore of {journal.artifact}: swapped {some(unit.path for unit in journal.units)}"


def _folder_name(path: Path) -> str:
    """Name of the live folder, read from a work folder of an earlier version; "" if unreadable."""
    try:
        return os.fsdecode(read_regular(path / "of", MAX_PART))
    except OSError:
        return ""


def previous_folders(
    swaps: Path, source: SourceName, live: FolderTarget | None
) -> tuple[PreviousVersion, ...]:
    """Everything that restores of `source` left, in the live folder and elsewhere.

    Args:
        swaps: the folder of the journals.
        live: where to look for folders without a journal; None: nowhere.
    """
    kept = [
        PreviousVersion(
            source, f"folder {one.path}", one.journal.at, partial(discard, one), of=one.journal.live
        )
        for one in finished(swaps, source)
    ]
    half = [
        PreviousVersion(
            source, f"copy {one.path}", one.journal.at, partial(discard, one), _why_stays(one),
            one.journal.live, half_made=True,
        )
        for one in half_made(swaps, source)
    ]  # fmt: skip
    if live is None:
        return (*kept, *half)
    unknown = [
        PreviousVersion(source, f"folder {path}", _made_at(path), lambda: None, _NO_JOURNAL, str(live.folder))
        for path in live.unknown_folders()
    ]
    return (*kept, *half, *unknown)


def finished(swaps: Path, source: SourceName, live: Path | None = None) -> list[WorkFolder]:
    """Return the finished swaps of `source` (in the folder `live`), oldest first."""
    return [one for one in _works(swaps, source, live) if one.swap.state is SwapState.DONE]


def half_made(swaps: Path, source: SourceName, live: Path | None = None) -> list[WorkFolder]:
    """Return the swaps of `source` (in the folder `live`) that were not finished."""
    return [one for one in _works(swaps, source, live) if one.swap.state is not SwapState.DONE]


def _works(swaps: Path, source: SourceName, live: Path | None) -> list[WorkFolder]:
    with explain_os_errors(swaps):
        return [WorkFolder(swap) for swap in swap_journal.swaps(swaps, source, live)]


def _why_stays(work: WorkFolder) -> str:
    """Reason why an incomplete copy must not be removed, or ""."""
    if work.swap.state is SwapState.SWAPPING:
        return "its swap was interrupted: the next restore or undo there finishes it"
    try:
        with explain_os_errors(work.path), swapping.reopened(work.swap):
            return ""
    except swapping.GoneError:
        return ""
    except RefnetError as error:
        return error.message


def discard(work: WorkFolder) -> None:
    """Remove the previous version that a finished restore keeps."""
    with explain_os_errors(work.path):
        swapping.remove(work.swap)


def _made_at(work: Path) -> datetime:
    """Time in the name of a work folder; 1970 for an invalid name, as anyone may have made it."""
    stamp = _STAMP.search(work.name)
    with suppress(ValueError, OverflowError):
        return datetime.strptime(stamp[1] if stamp else "", "%Y%m%d_%H%M%S").astimezone()
    return datetime.fromtimestamp(0, UTC)


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn OSErrors into RefnetErrors about the error's path, else `path`."""
    try:
        yield
    except OSError as error:
        named = show(os.fsdecode(error.filename or path))
        raise RefnetError(
            f"{named}: {error.strerror or error}",
            _HINTS.get(error.errno or 0, "Fix it and retry."),
        ) from error


_OWNER = "Run it as the user that owns the folder, or give the folder to this user."
_SPACE = "Free some space there, then retry; the live files were not touched."
_HINTS = {
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "Mount it writable.",
    errno.ENOTDIR: "A file is in the place of a folder: move it away, then retry.",
    errno.ENOENT: "Is the disk mounted? Is the path right?",
    errno.EBUSY: "Something is mounted or in use there: unmount it, then retry.",
}
