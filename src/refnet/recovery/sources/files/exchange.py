"""Puts what was unpacked in the place of what is live, one rename each, so that a kill at any step is mended.

A work folder stands beside what is exchanged, on the same file system, hidden and private:

    .refnet-obsidian-20261125_020000/
        fresh/            what is to become live, each entry under its own name
        kept/             what was live
        of                the name of the folder that is restored
        exchange.json     the journal: from here on the exchange is finished by whoever finds it
        kept.json         the same, renamed: finished; `kept/` waits for an undo, and to be removed in time

Without a journal nothing live was touched, and the folder is a leftover. A journal says which inode each fresh
entry has, so that it can be told from the old one that the exchange leaves in its place.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import HIDDEN_PREFIX, SourceName, utc
from refnet.recovery.sources.files import rename
from refnet.recovery.sources.files.names import checked
from refnet.recovery.sources.files.unpack import remove_tree

JOURNAL = "exchange.json"
FINISHED = "kept.json"


class Why(StrEnum):
    """What put the kept entries aside."""

    RESTORED = "restored"
    UNDONE = "undone"


@dataclass(frozen=True)
class Unit:
    """One entry: its name, and the inode of the fresh one; None where the live one goes and nothing comes."""

    name: str
    fresh: int | None


@dataclass(frozen=True)
class Journal:
    """What an exchange does. `base`: the folder of the live entries, seen from the work folder's parent.

    `artifact`: what was restored. `took`: the work folder whose `kept` becomes our `fresh` (an undo). `back`:
    whether the exchange is being taken back, after a rename that failed.
    """

    source: SourceName
    artifact: str
    at: datetime
    why: Why
    base: str
    units: tuple[Unit, ...]
    took: str = ""
    back: bool = False

    def to_json(self) -> bytes:
        return json.dumps({**asdict(self), "at": utc(self.at)}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Journal:
        """The journal in `text`; ValueError where it is none."""
        try:
            values = json.loads(text)
            values["source"], values["why"] = SourceName(values["source"]), Why(values["why"])
            values["at"] = datetime.fromisoformat(values["at"])
            values["units"] = tuple(Unit(**unit) for unit in values["units"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no journal: {error}") from error


@dataclass(frozen=True)
class Work:
    """A work folder and the journal in it, if it has one. `of`: the name of the folder that is restored."""

    path: Path
    of: str
    journal: Journal | None = None
    finished: bool = False

    @property
    def fresh(self) -> Path:
        return self.path / "fresh"

    @property
    def kept(self) -> Path:
        return self.path / "kept"

    def base(self, journal: Journal) -> Path:
        """The folder of the live entries."""
        return self.path.parent / checked(os.fsencode(journal.base))


@contextmanager
def begin(home: Path, source: SourceName, of: str, local: datetime) -> Iterator[Work]:
    """A new work folder in `home`, for the folder named `of`, claimed meanwhile; gone where it comes to no journal.

    OSError where it cannot be made.
    """
    path = _new_folder(home, f"{HIDDEN_PREFIX}{source}-{local:%Y%m%d_%H%M%S}")
    with claimed(path):
        (path / "of").write_bytes(os.fsencode(of))
        (path / ".gitignore").write_text("*\n")
        (path / "fresh").mkdir(mode=0o700)
        (path / "kept").mkdir(mode=0o700)
        try:
            yield Work(path, of)
        except BaseException:
            if path.exists() and not read(path).journal:
                discard(path)
            raise


def _new_folder(home: Path, stem: str) -> Path:
    for number in range(1, 1000):
        path = home / (f"{stem}_{number}" if number > 1 else stem)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
    raise FileExistsError(errno.EEXIST, f"every name like {stem} is taken", str(home))


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the work folder at `path`; RefnetError with Exit.LOCKED where a living process does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RefnetError(
            f"another restore is at work in {path}",
            "Wait until it has ended, then run this again.",
            Exit.LOCKED,
        ) from None
    finally:
        os.close(descriptor)


def works(homes: Iterable[Path], source: SourceName, of: str) -> Iterator[Work]:
    """Every work folder of the folder named `of` in `homes`, oldest first. OSError for a journal that is none."""
    prefix = f"{HIDDEN_PREFIX}{source}-"
    for home in homes:
        with suppress(
            FileNotFoundError, NotADirectoryError, PermissionError
        ):  # where we may not look is not ours
            for path in sorted(path for path in home.iterdir() if path.name.startswith(prefix)):
                with suppress(PermissionError):  # another user's
                    if (work := read(path)).of in {of, ""}:
                        yield work


def read(path: Path) -> Work:
    """The work folder at `path`."""
    of = os.fsdecode((path / "of").read_bytes()) if (path / "of").exists() else ""
    for name, finished in ((FINISHED, True), (JOURNAL, False)):
        try:
            text = (path / name).read_bytes()
        except FileNotFoundError:
            continue
        try:
            return Work(path, of, Journal.from_json(text), finished)
        except ValueError as error:
            raise OSError(errno.EIO, f"its journal cannot be read ({error})", str(path / name)) from error
    return Work(path, of)


def finish(work: Work, journal: Journal) -> Work:
    """Go on with an exchange that has its journal, from wherever it stands; what was live is in `kept` then.

    OSError where a rename fails: then what was exchanged is taken back first.
    """
    if journal.back:
        _take_back(work, journal)
        return work
    try:
        for unit in journal.units:
            _place(work, journal, unit)
    except OSError:
        journal = replace(journal, back=True)
        write(work.path, journal)
        _take_back(work, journal)
        raise
    _sync(work, journal)
    if journal.took and (took := work.path.parent / journal.took).exists():
        discard(took)  # before we are finished: emptied, it must not be taken for something to go back to
    (work.path / JOURNAL).rename(work.path / FINISHED)
    rename.sync_folder(work.path)
    return replace(work, journal=journal, finished=True)


def discard(path: Path) -> None:
    """Remove a work folder; its journal first, so that nobody takes what a kill leaves for whole."""
    for name in (FINISHED, JOURNAL):
        (path / name).unlink(missing_ok=True)
    rename.sync_folder(path)
    remove_tree(path)


def _place(work: Work, journal: Journal, unit: Unit) -> None:
    fresh, kept, live = _three(work, journal, unit)
    if journal.took and not os.path.lexists(fresh) and not os.path.lexists(kept):
        taken = _taken(work, journal, unit)
        if os.path.lexists(taken):
            rename.move(taken, fresh)
    if os.path.lexists(fresh):
        if fresh.lstat().st_ino == unit.fresh:
            _exchange(fresh, live, kept)
        if os.path.lexists(fresh):
            rename.move(fresh, kept)
    elif unit.fresh is None and os.path.lexists(live) and not os.path.lexists(kept):
        rename.move(live, kept)


def _exchange(fresh: Path, live: Path, kept: Path) -> None:
    """Put `fresh` in the place of `live`, which is in its place or in `kept` afterwards."""
    if os.path.lexists(live):
        if rename.exchange(fresh, live):
            return
        rename.move(live, kept)
    rename.move(fresh, live)


def _take_back(work: Work, journal: Journal) -> None:
    for unit in reversed(journal.units):
        fresh, kept, live = _three(work, journal, unit)
        if os.path.lexists(fresh) and fresh.lstat().st_ino != unit.fresh:
            rename.move(fresh, kept)  # exchanged, and not yet put aside
        if os.path.lexists(kept):
            _exchange(kept, live, fresh)
            if os.path.lexists(kept):
                rename.move(kept, fresh)
        elif os.path.lexists(live) and live.lstat().st_ino == unit.fresh:
            rename.move(live, fresh)
        if journal.took and os.path.lexists(fresh):
            rename.move(fresh, _taken(work, journal, unit))
    _sync(work, journal)
    discard(work.path)


def _three(work: Work, journal: Journal, unit: Unit) -> tuple[Path, Path, Path]:
    return work.fresh / unit.name, work.kept / unit.name, work.base(journal) / unit.name


def _taken(work: Work, journal: Journal, unit: Unit) -> Path:
    return work.path.parent / journal.took / "kept" / unit.name


def _sync(work: Work, journal: Journal) -> None:
    for folder in (work.base(journal), work.fresh, work.kept, work.path.parent):
        rename.sync_folder(folder)


def write(folder: Path, journal: Journal) -> None:
    """Write the journal into the work folder, whole or not at all; from then on `finish` must run."""
    part = folder / f"{JOURNAL}.part"
    with part.open("wb") as file:
        file.write(journal.to_json())
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / JOURNAL)
    rename.sync_folder(folder)
    rename.sync_folder(folder.parent)
