"""Where a source is live, and what restores left there: work folders to be finished, kept ones to go back to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.sources.files import exchange, rename
from refnet.recovery.sources.files.exchange import Journal, Work
from refnet.recovery.sources.files.names import show


@dataclass(frozen=True)
class Place:
    """The folder of a source, links on the way to it resolved.

    `names`: the entries that may be exchanged; None: all. `whole`: the folder itself is exchanged, by work done
    in its parent; else its entries are, by work done within it.
    """

    source: SourceName
    folder: Path
    names: frozenset[str] | None
    whole: bool

    @property
    def home(self) -> Path:
        """Where new work is done."""
        return self.folder.parent if self.whole else self.folder

    def kept(self) -> list[tuple[Work, Journal]]:
        """What finished restores put aside, oldest first."""
        found = [(work, work.journal) for work in self._works() if work.finished and work.journal]
        return sorted(found, key=lambda one: one[1].at)

    def unfinished(self) -> list[Work]:
        """What restores left that were cut off."""
        return [work for work in self._works() if not work.finished]

    def _works(self) -> list[Work]:
        """What restores of this place left, wherever they worked."""
        with told(self.folder):
            return list(exchange.works((self.folder.parent, self.folder), self.source, self.folder.name))


def place_of(source: SourceName, folder: Path, names: frozenset[str] | None) -> Place:
    """The place of `source`, whose folder need not be there."""
    folder = folder.resolve()
    nearest = next(path for path in (*folder.parents, folder) if path.exists())
    whole = names is None and not rename.is_mount_point(folder) and os.access(nearest, os.W_OK | os.X_OK)
    return Place(source, folder, names, whole)


def settle(place: Place) -> tuple[str, ...]:
    """Finish what restores left that were cut off, or remove it; a sentence for each."""
    sentences = []
    for work in sorted(place.unfinished(), key=lambda work: work.journal is None):
        if not work.path.exists():
            continue  # it went with the one before
        with told(work.path), exchange.claimed(work.path):
            sentences.append(_settle(exchange.read(work.path)))
    return tuple(sentences)


def discard(work: Work) -> None:
    """Remove what a finished restore put aside."""
    with told(work.path), exchange.claimed(work.path):
        exchange.discard(work.path)


def _settle(work: Work) -> str:
    journal = work.journal
    if journal is None:
        exchange.discard(work.path)
        return f"removed what a restore had unpacked that was cut off ({work.path.name}); nothing live had been touched"
    exchange.finish(work, journal)
    if journal.back:
        return f"took back a restore of {journal.artifact} that had failed and was cut off"
    return f"finished a restore of {journal.artifact} that was cut off while it exchanged {_names(journal)}"


def _names(journal: Journal) -> str:
    return ", ".join(show(unit.name) for unit in journal.units)


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
