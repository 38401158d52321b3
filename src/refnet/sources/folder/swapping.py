"""Swap unpacked entries with live ones, one rename each; a kill at any step can be recovered.

A work folder is beside the swapped entries, on the same file system, hidden and private:

    .refnet-obsidian-20261125_020000-4be19d02/
        fresh/            the entries that become live, under their own names
        kept/             the previous entries
        token             the token of the journal, so that no other folder is taken for this one

The journal is in REFNET_HOME (swap_journal.py). Until its state is `swapping`, nothing live was touched and the folder
is a leftover; from then on, the next restore or undo finishes the swap. The journal has the inode of each fresh entry,
which tells it from the live one that the swap puts in its place. All renames use handles of folders, opened one by one
without following links, so a name that somebody replaces meanwhile leads nowhere else.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Self

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import (
    OPEN_FOLDER,
    descended,
    empty_tree,
    make_folders,
    names_in,
    open_file,
    opened,
    read_regular,
    user_name,
)
from refnet.core.locks import take
from refnet.sources.folder import rename, swap_journal
from refnet.sources.folder.rename import Entry
from refnet.sources.folder.swap_journal import Swap, SwapJournal, SwapReason, SwapState, SwapUnit

_TOKEN = "token"  # noqa: S105  # the name of a file
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
#: Seconds to wait for the lock of a new work folder: a list of leftovers may try it for a moment.
_PATIENCE = 2.0


class GoneError(RefnetError):
    """The work folder of a swap is gone."""


@dataclass(frozen=True)
class Site:
    """The location of a swap."""

    #: The folder of the journals.
    swaps: Path
    source: SourceName
    live: Path
    #: True if the work folder is beside `live`, False if it is in it.
    beside: bool

    @property
    def mark(self) -> str:
        """The ending of the names of this folder's work folders."""
        return hashlib.sha256(os.fsencode(self.live)).hexdigest()[:8]


@dataclass(frozen=True)
class WorkFolder:
    """A swap and its work folder."""

    swap: Swap
    #: The handle of the work folder, while it is open.
    handle: int = -1

    @property
    def journal(self) -> SwapJournal:
        return self.swap.journal

    @property
    def path(self) -> Path:
        """The work folder, for messages."""
        return self.journal.home / self.journal.work

    @property
    def previous_folder(self) -> Path:
        """The folder of the previous entries, for messages."""
        return self.path / "kept"

    @contextmanager
    def folder(self, name: str) -> Iterator[int]:
        """Open the folder `fresh` or `kept` of the open work folder."""
        with opened(name, OPEN_FOLDER, self.handle) as handle:
            yield handle


@contextmanager
def begin(site: Site, artifact: str, at: datetime, why: SwapReason) -> Iterator[WorkFolder]:
    """Create and lock a work folder; remove it again if no swap is journaled. OSError if that fails."""
    journal = SwapJournal(
        site.source, artifact, at, why, str(site.live), site.beside, "", secrets.token_hex(16), os.geteuid()
    )
    with opened(journal.home, OPEN_FOLDER) as home:
        stem = f"{HIDDEN_PREFIX}{site.source}-{at.astimezone():%Y%m%d_%H%M%S}-{site.mark}"
        journal = replace(journal, work=_new_folder(home, stem))
        with opened(journal.work, OPEN_FOLDER, home) as handle:
            if os.fstat(handle).st_uid != os.geteuid() or names_in(handle):
                raise FileExistsError(
                    errno.EEXIST, "another program replaced the folder", str(journal.home / journal.work)
                )
            try:
                work = WorkFolder(swap_journal.write(site.swaps, journal, SwapState.BEGUN), handle)
                _lock(work, _PATIENCE)
                _fill(work)
                yield work
            except BaseException:
                _withdraw(site, journal, home)
                raise


def _withdraw(site: Site, journal: SwapJournal, home: int) -> None:
    """Remove the new work folder unless its swap was journaled."""
    left = swap_journal.find(site.swaps, journal.name)
    if left is None:
        with suppress(OSError):
            os.rmdir(journal.work, dir_fd=home)
    elif left.state is SwapState.BEGUN:
        remove(left, lock=False)


def _new_folder(home: int, stem: str) -> str:
    for number in range(1, 1000):
        name = f"{stem}_{number}" if number > 1 else stem
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=home)
            return name
    raise FileExistsError(errno.EEXIST, f"every name like {stem} is taken")


def _fill(work: WorkFolder) -> None:
    for name, text in ((_TOKEN, work.journal.token), (".gitignore", "*\n")):
        with os.fdopen(open_file(name, _NEW, at=work.handle), "wb") as file:
            file.write(text.encode())
    for name in ("fresh", "kept"):
        os.mkdir(name, 0o700, dir_fd=work.handle)


def _lock(work: WorkFolder, seconds: float = 0.0) -> None:
    """Lock the open work folder. RefnetError with Exit.LOCKED if another process has locked it."""
    if not take(work.handle, seconds=seconds):
        raise RefnetError(
            f"another restore is running in {work.path}",
            "Wait until it has ended, then retry.",
            Exit.LOCKED,
        )


@contextmanager
def reopened(swap: Swap, *, lock: bool = True) -> Iterator[WorkFolder]:
    """Open the work folder of `swap`, check that RefNet made it, and lock it, unless it is only read.

    GoneError if it is gone; RefnetError if something else is in its place.
    """
    journal = swap.journal
    with ExitStack() as stack:
        try:
            home = stack.enter_context(opened(journal.home, OPEN_FOLDER))
            handle = stack.enter_context(opened(journal.work, OPEN_FOLDER, home))
        except FileNotFoundError:
            raise GoneError(
                f"{journal.home / journal.work}, the work folder of the restore of {journal.artifact}, is gone",
                f"Is its disk mounted? If it is gone for good, remove {swap.path}, then retry.",
            ) from None
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise _not_ours(swap, "it is not a folder") from None
            raise
        work = WorkFolder(swap, handle)
        _check(work)
        if lock:
            _lock(work)
        yield work


def _check(work: WorkFolder) -> None:
    journal, found = work.journal, os.fstat(work.handle)
    if found.st_uid != journal.owner:
        raise _not_ours(work.swap, f"it belongs to {user_name(found.st_uid)}")
    try:
        token = read_regular(_TOKEN, len(journal.token), at=work.handle)
    except FileNotFoundError:
        token = b""
    except OSError as error:
        raise _not_ours(work.swap, str(error.strerror)) from error
    bare = work.swap.state is SwapState.BEGUN and set(names_in(work.handle)) <= {_TOKEN}
    if token != journal.token.encode() and not bare:
        raise _not_ours(work.swap, "its token is different")


def _not_ours(swap: Swap, why: str) -> RefnetError:
    journal = swap.journal
    return RefnetError(
        f"{journal.home / journal.work} is not the folder that the restore of {journal.artifact} made: {why}",
        f"Check it and move it away. If that restore is no longer needed, remove {swap.path} too.",
    )


def carry_out(
    work: WorkFolder, base: tuple[str, ...], units: tuple[SwapUnit, ...], took: str = ""
) -> WorkFolder:
    """Journal and perform the swap; afterwards `kept` has the previous entries.

    OSError if a rename fails; swapped entries were rolled back then.
    """
    for handle_of in ("fresh", "kept"):
        with work.folder(handle_of) as handle:
            for folder in dict.fromkeys(unit.folder for unit in units):
                make_folders(folder, handle)
    journal = replace(work.journal, base=base, units=units, took=took)
    made = swap_journal.write(work.swap.folder, journal, SwapState.SWAPPING)
    swap_journal.forget(made, SwapState.BEGUN)
    return finish(WorkFolder(made, work.handle))


def finish(work: WorkFolder) -> WorkFolder:
    """Continue a journaled swap from any step; see `carry_out`."""
    with _Open.of(work) as at:
        if work.journal.back:
            at.roll_back()
            discard(work)
            return work
        try:
            at.swap()
        except OSError:
            work = WorkFolder(
                swap_journal.write(work.swap.folder, replace(work.journal, back=True), SwapState.SWAPPING),
                work.handle,
            )
            at.roll_back()
            discard(work)
            raise
    if work.journal.took and (took := swap_journal.find(work.swap.folder, work.journal.took)):
        remove(took)  # before the state changes: it is empty, and an undo must not choose it
    done = swap_journal.set_state(work.swap, SwapState.DONE)
    swap_journal.forget(done, SwapState.BEGUN)
    return replace(work, swap=done)


def has_previous(kept: int, unit: SwapUnit) -> bool:
    """Return True if the open folder `kept` has the previous entry of `unit`."""
    with descended(kept, unit.folder) as folder:
        return rename.exists((folder, unit.name))


def remove(swap: Swap, *, lock: bool = True) -> None:
    """Remove the work folder and the journal of `swap`: first set its state to `begun`, last remove the journal."""
    try:
        with reopened(swap, lock=lock) as work:
            discard(work)
    except GoneError:
        swap_journal.forget(swap)


def discard(work: WorkFolder) -> None:
    """Remove the open work folder and its journal; see `remove`."""
    if mounts := rename.mounts_below(work.path):
        raise OSError(errno.EBUSY, "something is mounted in a folder to be removed", str(mounts[0]))
    begun = (
        work.swap
        if work.swap.state is SwapState.BEGUN
        else swap_journal.set_state(work.swap, SwapState.BEGUN)
    )
    for name in ("fresh", "kept"):
        with suppress(FileNotFoundError):
            with work.folder(name) as handle:
                empty_tree(handle)
            os.rmdir(name, dir_fd=work.handle)
    for name in set(names_in(work.handle)) - {_TOKEN}:
        os.unlink(name, dir_fd=work.handle)
    with suppress(FileNotFoundError):
        os.unlink(_TOKEN, dir_fd=work.handle)
    with opened(work.journal.home, OPEN_FOLDER) as home:
        os.rmdir(work.journal.work, dir_fd=home)
    swap_journal.forget(begun)


@dataclass(frozen=True)
class _Open:
    journal: SwapJournal
    fresh: int
    previous: int
    live: int
    home: int
    #: For an undo: the folder from which its fresh entries come.
    taken: int | None

    @classmethod
    @contextmanager
    def of(cls, work: WorkFolder) -> Iterator[Self]:
        journal = work.journal
        with ExitStack() as stack:
            home = stack.enter_context(opened(journal.home, OPEN_FOLDER))
            live = stack.enter_context(descended(home, journal.base))
            fresh, previous = (stack.enter_context(work.folder(name)) for name in ("fresh", "kept"))
            taken = None
            if took := swap_journal.find(work.swap.folder, journal.took) if journal.took else None:
                with suppress(GoneError, FileNotFoundError):  # its removal was interrupted
                    taken = stack.enter_context(stack.enter_context(reopened(took)).folder("kept"))
            yield cls(journal, fresh, previous, live, home, taken)

    def swap(self) -> None:
        for folder, units in groupby(self.journal.units, attrgetter("folder")):
            path = folder
            try:
                with self._within(folder) as at:
                    for unit in units:
                        path = (*folder, unit.name)
                        at._swap(unit)
                    at._sync()
            except OSError as error:
                error.filename = str(Path(self.journal.home, *self.journal.base, *path))
                raise

    def _swap(self, unit: SwapUnit) -> None:
        fresh, previous, live = self._three(unit)
        if self.taken is not None and not rename.exists(fresh) and not rename.exists(previous):
            taken = (self.taken, unit.name)
            if rename.exists(taken):
                rename.move(taken, fresh)
        if rename.exists(fresh):
            if rename.inode(fresh) == unit.fresh:
                rename.swap_in(fresh, live, previous)
            if rename.exists(fresh):
                rename.move(fresh, previous)
        elif unit.fresh is None and rename.exists(live) and not rename.exists(previous):
            rename.move(live, previous)

    def roll_back(self) -> None:
        for folder, units in groupby(reversed(self.journal.units), attrgetter("folder")):
            group = tuple(units)
            if folder and self._gone(folder) and not any(has_previous(self.previous, unit) for unit in group):
                continue  # that live folder was removed before anything in it was swapped
            with self._within(folder) as at:
                for unit in group:
                    at._roll_back(unit)
                at._sync()

    def _roll_back(self, unit: SwapUnit) -> None:
        fresh, previous, live = self._three(unit)
        if rename.exists(fresh) and rename.inode(fresh) != unit.fresh:
            rename.move(fresh, previous)  # swapped, but not yet moved to previous
        if rename.exists(previous):
            rename.swap_in(previous, live, fresh)
            if rename.exists(previous):
                rename.move(previous, fresh)
        elif rename.exists(live) and rename.inode(live) == unit.fresh:
            rename.move(live, fresh)
        if self.taken is not None and rename.exists(fresh):
            rename.move(fresh, (self.taken, unit.name))

    @contextmanager
    def _within(self, folder: tuple[str, ...]) -> Iterator[Self]:
        """Open the folder `folder` of each side. OSError if the live one is gone, or a link is on the way."""
        with ExitStack() as stack:
            live, fresh, previous = (
                stack.enter_context(descended(side, folder))
                for side in (self.live, self.fresh, self.previous)
            )
            taken = None
            if self.taken is not None:
                with suppress(FileNotFoundError):  # its removal was interrupted
                    taken = stack.enter_context(descended(self.taken, folder))
            yield replace(self, live=live, fresh=fresh, previous=previous, taken=taken)

    def _gone(self, folder: tuple[str, ...]) -> bool:
        try:
            with descended(self.live, folder):
                return False
        except OSError:
            return True

    def _three(self, unit: SwapUnit) -> tuple[Entry, Entry, Entry]:
        return (self.fresh, unit.name), (self.previous, unit.name), (self.live, unit.name)

    def _sync(self) -> None:
        for handle in (self.live, self.fresh, self.previous, self.home):
            os.fsync(handle)
