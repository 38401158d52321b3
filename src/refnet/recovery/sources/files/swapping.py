"""Swaps what was unpacked with what is live, one rename each, so that a kill at any step is mended.

A work folder stands beside what is swapped, on the same file system, hidden and private:

    .refnet-obsidian-20261125_020000-4be19d02/
        fresh/            what is to become live, each entry under its own name
        kept/             what was live
        token             what the journal says of it, so that no other folder is taken for this one

The journal lies in REFNET_HOME (swap_journal.py). Before it says `swapping` nothing live was touched, and the folder is a
leftover; from then on the swap is finished by the next restore or undo. It says which inode each fresh entry has, so
that it can be told from the old one that the swap leaves in its place. All goes by handles of the folders, opened from
the one above without following a link: a name that somebody exchanges meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FOLDER, empty_tree, names_in, open_file, opened, read_regular, user_name
from refnet.recovery.model.artifact import HIDDEN_PREFIX, SourceName
from refnet.recovery.sources.files import rename, swap_journal
from refnet.recovery.sources.files.rename import Entry
from refnet.recovery.sources.files.swap_journal import Journal, State, Swap, Unit, Why

_TOKEN = "token"  # noqa: S105  # the name of a file
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class GoneError(RefnetError):
    """The work folder of a swap is not where it was."""


@dataclass(frozen=True)
class Site:
    """Where a swap works: for the folder `live` of `source`, `beside` it or in it; its journals lie in `swaps`."""

    swaps: Path
    source: SourceName
    live: Path
    beside: bool

    @property
    def mark(self) -> str:
        """What the names of this folder's work folders end with."""
        return hashlib.sha256(os.fsencode(self.live)).hexdigest()[:8]


@dataclass(frozen=True)
class Work:
    """A swap and where it works; `handle` is that of its open work folder, while it is open."""

    swap: Swap
    handle: int = -1

    @property
    def journal(self) -> Journal:
        return self.swap.journal

    @property
    def path(self) -> Path:
        """The work folder, for messages."""
        return self.journal.home / self.journal.work

    @property
    def kept(self) -> Path:
        """Where the kept entries are, for messages."""
        return self.path / "kept"

    @contextmanager
    def folder(self, name: str) -> Iterator[int]:
        """The open folder `fresh` or `kept` of the open work folder."""
        with opened(name, OPEN_FOLDER, self.handle) as handle:
            yield handle


@contextmanager
def begin(site: Site, artifact: str, at: datetime, why: Why) -> Iterator[Work]:
    """A new work folder, claimed meanwhile; gone again where it comes to no swap. OSError where it cannot be made."""
    journal = Journal(
        site.source, artifact, at, why, str(site.live), site.beside, "", secrets.token_hex(16), os.geteuid()
    )
    with opened(journal.home, OPEN_FOLDER) as home:
        stem = f"{HIDDEN_PREFIX}{site.source}-{at.astimezone():%Y%m%d_%H%M%S}-{site.mark}"
        journal = replace(journal, work=_new_folder(home, stem))
        with opened(journal.work, OPEN_FOLDER, home) as handle:
            if os.fstat(handle).st_uid != os.geteuid() or names_in(handle):
                raise FileExistsError(
                    errno.EEXIST, "somebody put another folder there", str(journal.home / journal.work)
                )
            try:
                work = Work(swap_journal.write(site.swaps, journal, State.BEGUN), handle)
                with _claim(work):
                    _furnish(work)
                    yield work
            except BaseException:
                _withdraw(site, journal, home)
                raise


def _withdraw(site: Site, journal: Journal, home: int) -> None:
    """Remove the new work folder, unless its swap is written down by now."""
    left = swap_journal.find(site.swaps, journal.name)
    if left is None:
        with suppress(OSError):
            os.rmdir(journal.work, dir_fd=home)
    elif left.state is State.BEGUN:
        remove(left, claim=False)


def _new_folder(home: int, stem: str) -> str:
    for number in range(1, 1000):
        name = f"{stem}_{number}" if number > 1 else stem
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=home)
            return name
    raise FileExistsError(errno.EEXIST, f"every name like {stem} is taken")


def _furnish(work: Work) -> None:
    for name, text in ((_TOKEN, work.journal.token), (".gitignore", "*\n")):
        handle = open_file(name, _NEW, at=work.handle)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)
    for name in ("fresh", "kept"):
        os.mkdir(name, 0o700, dir_fd=work.handle)


@contextmanager
def _claim(work: Work) -> Iterator[None]:
    """Hold the open work folder; RefnetError with Exit.LOCKED where a living process does."""
    try:
        fcntl.flock(work.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RefnetError(
            f"another restore is at work in {work.path}",
            "Wait until it has ended, then run this again.",
            Exit.LOCKED,
        ) from None
    yield


@contextmanager
def reopened(swap: Swap, *, claim: bool = True) -> Iterator[Work]:
    """The work folder of `swap`, once it is certain that it is the one that RefNet made; claimed, unless only read.

    GoneError where it is gone; RefnetError where something else stands in its place.
    """
    journal = swap.journal
    with ExitStack() as stack:
        try:
            home = stack.enter_context(opened(journal.home, OPEN_FOLDER))
            handle = stack.enter_context(opened(journal.work, OPEN_FOLDER, home))
        except FileNotFoundError:
            raise GoneError(
                f"{journal.home / journal.work}, where the restore of {journal.artifact} kept its files, is gone",
                f"Is its disk mounted? If it is gone for good, remove {swap.path}, then run it again.",
            ) from None
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise _not_ours(swap, "it is no folder") from None
            raise
        work = Work(swap, handle)
        _check(work)
        if claim:
            stack.enter_context(_claim(work))
        yield work


def _check(work: Work) -> None:
    journal, found = work.journal, os.fstat(work.handle)
    if found.st_uid != journal.owner:
        raise _not_ours(work.swap, f"it belongs to {user_name(found.st_uid)}")
    try:
        token = read_regular(_TOKEN, len(journal.token), at=work.handle)
    except FileNotFoundError:
        token = b""
    except OSError as error:
        raise _not_ours(work.swap, str(error.strerror)) from error
    bare = work.swap.state is State.BEGUN and set(names_in(work.handle)) <= {_TOKEN}
    if token != journal.token.encode() and not bare:
        raise _not_ours(work.swap, "its token is another")


def _not_ours(swap: Swap, why: str) -> RefnetError:
    journal = swap.journal
    return RefnetError(
        f"{journal.home / journal.work} is not the folder that the restore of {journal.artifact} made: {why}",
        f"Look at it and move it away. If nothing of that restore is needed any more, remove {swap.path} too.",
    )


def carry_out(work: Work, base: tuple[str, ...], units: tuple[Unit, ...], took: str = "") -> Work:
    """Write down what is swapped, and do it; what was live is in `kept` then.

    OSError where a rename fails: then what was swapped is taken back first.
    """
    journal = replace(work.journal, base=base, units=units, took=took)
    made = swap_journal.write(work.swap.folder, journal, State.SWAPPING)
    swap_journal.forget(made, State.BEGUN)
    return finish(Work(made, work.handle))


def finish(work: Work) -> Work:
    """Go on with a swap that is written down, from wherever it stands; see `carry_out`."""
    with _Open.of(work) as at:
        if work.journal.back:
            at.take_back()
            discard(work)
            return work
        try:
            at.place()
        except OSError:
            work = Work(
                swap_journal.write(work.swap.folder, replace(work.journal, back=True), State.SWAPPING),
                work.handle,
            )
            at.take_back()
            discard(work)
            raise
    if work.journal.took and (took := swap_journal.find(work.swap.folder, work.journal.took)):
        remove(took)  # before we are finished: emptied, it must not be taken for something to go back to
    kept = swap_journal.turn(work.swap, State.KEPT)
    swap_journal.forget(kept, State.BEGUN)
    return replace(work, swap=kept)


def remove(swap: Swap, *, claim: bool = True) -> None:
    """Remove what `swap` left. Its journal says first that nothing of it is needed, and goes last."""
    try:
        with reopened(swap, claim=claim) as work:
            discard(work)
    except GoneError:
        swap_journal.forget(swap)


def discard(work: Work) -> None:
    """Remove the open work folder and its journal; see `remove`."""
    if mounts := rename.mounts_below(work.path):
        raise OSError(errno.EBUSY, "something is mounted in a folder that is to be removed", str(mounts[0]))
    begun = work.swap if work.swap.state is State.BEGUN else swap_journal.turn(work.swap, State.BEGUN)
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
    """A swap with the folders that it renames in, as handles. `taken`: where an undo takes the fresh entries from."""

    journal: Journal
    fresh: int
    kept: int
    live: int
    home: int
    taken: int | None

    @classmethod
    @contextmanager
    def of(cls, work: Work) -> Iterator[_Open]:
        journal = work.journal
        with ExitStack() as stack:
            home = stack.enter_context(opened(journal.home, OPEN_FOLDER))
            live = home
            for name in journal.base:
                live = stack.enter_context(opened(name, OPEN_FOLDER, live))
            fresh, kept = (stack.enter_context(work.folder(name)) for name in ("fresh", "kept"))
            taken = None
            if took := swap_journal.find(work.swap.folder, journal.took) if journal.took else None:
                with suppress(GoneError, FileNotFoundError):  # its removal was cut off
                    taken = stack.enter_context(stack.enter_context(reopened(took)).folder("kept"))
            yield cls(journal, fresh, kept, live, home, taken)

    def place(self) -> None:
        for unit in self.journal.units:
            try:
                self._place(unit)
            except OSError as error:
                error.filename = str(Path(self.journal.home, *self.journal.base, unit.name))
                raise
        self._sync()

    def _place(self, unit: Unit) -> None:
        fresh, kept, live = self._three(unit)
        if self.taken is not None and not rename.is_there(fresh) and not rename.is_there(kept):
            taken = (self.taken, unit.name)
            if rename.is_there(taken):
                rename.move(taken, fresh)
        if rename.is_there(fresh):
            if rename.inode(fresh) == unit.fresh:
                _exchange(fresh, live, kept)
            if rename.is_there(fresh):
                rename.move(fresh, kept)
        elif unit.fresh is None and rename.is_there(live) and not rename.is_there(kept):
            rename.move(live, kept)

    def take_back(self) -> None:
        for unit in reversed(self.journal.units):
            fresh, kept, live = self._three(unit)
            if rename.is_there(fresh) and rename.inode(fresh) != unit.fresh:
                rename.move(fresh, kept)  # swapped, and not yet put aside
            if rename.is_there(kept):
                _exchange(kept, live, fresh)
                if rename.is_there(kept):
                    rename.move(kept, fresh)
            elif rename.is_there(live) and rename.inode(live) == unit.fresh:
                rename.move(live, fresh)
            if self.taken is not None and rename.is_there(fresh):
                rename.move(fresh, (self.taken, unit.name))
        self._sync()

    def _three(self, unit: Unit) -> tuple[Entry, Entry, Entry]:
        return (self.fresh, unit.name), (self.kept, unit.name), (self.live, unit.name)

    def _sync(self) -> None:
        for handle in (self.live, self.fresh, self.kept, self.home):
            os.fsync(handle)


def _exchange(fresh: Entry, live: Entry, kept: Entry) -> None:
    """Put `fresh` in the place of `live`, which is in its place or in `kept` afterwards."""
    if rename.is_there(live):
        if rename.exchange(fresh, live):
            return
        rename.move(live, kept)
    rename.move(fresh, live)
