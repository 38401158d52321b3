"""Where a source is live, and what restores left there: work folders to be finished, kept ones to go back to."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import RefnetError
from refnet.files import read_regular
from refnet.recovery.model.artifact import HIDDEN_PREFIX, SourceName
from refnet.recovery.sources.files import rename, swap_journal, swapping
from refnet.recovery.sources.files.member_names import MAX_PART, show, some
from refnet.recovery.sources.files.swap_journal import Journal, State, Swap
from refnet.recovery.sources.files.swapping import Site, Work

#: The name of a work folder after its source: the time, the mark of its place (an earlier RefNet's has none), a number.
_WORK = re.compile(r"\d{8}_\d{6}(?:-([0-9a-f]{8}))?(?:_\d{1,3})?")


@dataclass(frozen=True)
class FolderTarget:
    """The folder of a source, links on the way to it resolved.

    `names`: the entries that may be exchanged; None: all. `whole`: the folder itself is exchanged, by work done
    in its parent; else its entries are, by work done within it. `swaps`: where the journals of that work lie.
    """

    source: SourceName
    folder: Path
    names: frozenset[str] | None
    whole: bool
    swaps: Path

    @property
    def home(self) -> Path:
        """Where new work is done."""
        return self.folder.parent if self.whole else self.folder

    def site(self, *, beside: bool | None = None) -> Site:
        """Where a swap works; `beside`: as an earlier one did."""
        return Site(self.swaps, self.source, self.folder, self.whole if beside is None else beside)

    def kept(self) -> list[Work]:
        """What finished restores keep, oldest first."""
        return [Work(swap) for swap in self._swaps() if swap.state is State.KEPT]

    def unfinished(self) -> list[Work]:
        """What restores left that were cut off."""
        return [Work(swap) for swap in self._swaps() if swap.state is not State.KEPT]

    def strangers(self) -> list[Path]:
        """Work folders of this place that no journal knows, oldest first: another user's, or an earlier RefNet's."""
        known = {work.path for work in (*self.kept(), *self.unfinished())}
        with told(self.folder):
            found = [path for home in (self.folder.parent, self.folder) for path in self._like_ours(home)]
        return sorted((path for path in found if path not in known), key=lambda path: path.name)

    def _like_ours(self, home: Path) -> Iterator[Path]:
        """The entries of `home` that are named like a work folder of this place, or like one of an earlier RefNet."""
        prefix, mark = f"{HIDDEN_PREFIX}{self.source}-", self.site().mark
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in home.iterdir():
                name = path.name
                made = _WORK.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
                if made and (made[1] == mark or (not made[1] and _of(path) in {self.folder.name, ""})):
                    yield path

    def _swaps(self) -> list[Swap]:
        with told(self.swaps):
            return swap_journal.swaps(self.swaps, self.source, self.folder)


def place_of(source: SourceName, folder: Path, names: frozenset[str] | None, swaps: Path) -> FolderTarget:
    """The place of `source`, whose folder need not be there."""
    folder = folder.resolve()
    nearest = next(path for path in (*folder.parents, folder) if path.exists())
    whole = names is None and not rename.is_mount_point(folder) and os.access(nearest, os.W_OK | os.X_OK)
    return FolderTarget(source, folder, names, whole, swaps)


def settle(place: FolderTarget) -> tuple[str, ...]:
    """Finish what restores left that were cut off, or remove it; a sentence for each."""
    sentences = []
    for work in sorted(place.unfinished(), key=lambda work: work.swap.state is State.BEGUN):
        if swap_journal.find(place.swaps, work.swap.name) is None:
            continue  # it went with the one before
        with told(work.path):
            sentences.append(_settle(work.swap))
    for path in place.strangers():
        with suppress(OSError):  # a run was killed right after it had made it: nothing is in it
            if path.lstat().st_uid == os.geteuid():
                path.rmdir()
    return tuple(sentences)


def interrupted(swaps_folder: Path, source: SourceName, folder: Path) -> tuple[str, ...]:
    """A sentence for each restore of `folder` that was cut off while it swapped; for a backup, which changes nothing."""
    try:
        found = swap_journal.swaps(swaps_folder, source, folder.resolve())
    except RefnetError as error:
        return (f"whether a restore was cut off cannot be told: {error.message}",)
    except OSError as error:
        return (f"whether a restore was cut off cannot be told: {swaps_folder}: {error.strerror}",)
    return tuple(
        f"a restore of {show(swap.journal.artifact)} was cut off: a part of what was backed up may be older or newer "
        f"than the rest, until a restore or `refnet undo {source}` finishes it"
        for swap in found
        if swap.state is State.SWAPPING
    )


def discard(work: Work) -> None:
    """Remove what a finished restore keeps."""
    with told(work.path):
        swapping.remove(work.swap)


def _settle(swap: Swap) -> str:
    journal = swap.journal
    if swap.state is State.BEGUN:
        swapping.remove(swap)
        return f"removed what a restore had unpacked that was cut off ({journal.work}); nothing live had been touched"
    with swapping.reopened(swap) as work:
        swapping.finish(work)
    if journal.back:
        return f"took back a restore of {journal.artifact} that had failed and was cut off"
    return f"finished a restore of {journal.artifact} that was cut off while it exchanged {_names(journal)}"


def _names(journal: Journal) -> str:
    return some(unit.name for unit in journal.units)


def _of(path: Path) -> str:
    """Of a work folder of an earlier RefNet: the name of the folder that it is for; "" where that cannot be read."""
    try:
        return os.fsdecode(read_regular(path / "of", MAX_PART))
    except OSError:
        return ""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell what the operating system refuses as a RefnetError."""
    try:
        yield
    except OSError as error:
        named = show(os.fsdecode(error.filename or path))
        raise RefnetError(
            f"{named}: {error.strerror or error}",
            _HINTS.get(error.errno or 0, "Mend that, then run it again."),
        ) from error


_OWNER = "Run it as the user that owns the folder, or give the folder to this user."
_ROOM = "Free some space there, then run it again; what is live was not touched."
_HINTS = {
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "Mount it writable.",
    errno.ENOENT: "Is the disk mounted? Is the path right?",
    errno.EBUSY: "Something is mounted or in use there: unmount it, then run it again.",
}
