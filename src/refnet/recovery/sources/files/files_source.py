"""The sources `config` and `obsidian` behind the seam that every source has."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from refnet.errors import RefnetError
from refnet.files import OPEN_FOLDER
from refnet.recovery.model.artifact import Level, SourceName
from refnet.recovery.model.source import (
    MOST_FILES,
    MOST_LIST_BYTES,
    Made,
    OpenArtifact,
    Progress,
    Proof,
    silent,
)
from refnet.recovery.sources.files.archive_writer import Dumped, dump
from refnet.recovery.sources.files.entries import Wanted, present
from refnet.recovery.sources.files.files_proof import prove
from refnet.recovery.sources.files.fingerprint import state_of
from refnet.recovery.sources.files.listing import Kind
from refnet.recovery.sources.files.member_names import show, some
from refnet.recovery.sources.files.target import interrupted

_NOTES = 20


@dataclass(frozen=True)
class FilesSource:
    """A folder: all of it (`wanted` None: the vault), or the listed entries of it; a proof needs none (None).

    `last` finds the newest whole artifact, if any: a folder that is empty now and was not then is an error, and
    where nothing changed since, its bytes are shared. `scratch` is where proofs unpack, in private folders; `swaps`
    holds the journals of restores, for a backup of a folder in which one was cut off.
    """

    name: SourceName
    folder: Path | None
    wanted: tuple[Wanted, ...] | None
    scratch: Path
    swaps: Path | None = None
    jobs: int = 1
    last: Callable[[], OpenArtifact | None] = lambda: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def dump(self, out: BinaryIO, progress: Progress = silent) -> Made:
        """Write the archive; nothing where its bytes are those of `last`, which the details then name.

        RefnetError where the folder or a required entry is missing, or a file cannot be read.
        """
        cut_off = interrupted(self.swaps, self.name, self.folder) if self.swaps and self.folder else ()
        last = self.last()
        created = self.now()
        with self._opened() as root:
            only, absent = (None, ()) if self.wanted is None else self._present(root, cut_off)
            if last and not cut_off and (shared := _unchanged(last, root, only, created)):
                return shared
            dumped = dump(root, only, out, self.jobs, progress)
        if dumped.unreadable:
            raise RefnetError(
                f"{self.name} is not backed up: {some(dumped.unreadable)} cannot be read",
                "Make them readable for this user (or run as their owner), then run the backup again.",
            )
        self._check_not_emptied(dumped, last)
        unchecked = (*cut_off, *absent, *_first(dumped.notes))
        return Made(created, self._details(dumped), self._list(dumped), unchecked)

    def prove(self, held: OpenArtifact, level: Level, progress: Progress = silent) -> Proof:
        """Check `held` up to `level`, in a private folder below `scratch`."""
        return prove(held, level, self.scratch, progress)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            root = os.open(self.folder or "", OPEN_FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            raise RefnetError(
                f"the folder of {self.name} cannot be read: {show(str(self.folder))} ({error.strerror})",
                f"Put it back, mount it, or set {_VARIABLES[self.name]} to where it is.",
            ) from None
        try:
            yield root
        finally:
            os.close(root)

    def _present(self, root: int, cut_off: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Which listed entries are there; what is missing can be in the work folder of a restore that was cut off."""
        try:
            return present(self.wanted or (), root)
        except RefnetError as error:
            if not cut_off:
                raise
            raise RefnetError(error.message, f"{cut_off[0]}.", error.code) from error

    def _check_not_emptied(self, dumped: Dumped, last: OpenArtifact | None) -> None:
        manifest = last.manifest if last else None
        before = manifest.details.get("files", 0) if manifest else 0
        if manifest and before and not dumped.files.count(Kind.FILE):
            raise RefnetError(
                f"{self.name} is not backed up: {show(str(self.folder))} is empty, "
                f"and {manifest.name} held {before} files",
                "Is it mounted? If it is meant to be empty, put one file into it.",
            )

    def _list(self, dumped: Dumped) -> bytes:
        """The list of files; RefnetError where no reader would take it."""
        files = dumped.files.to_json()
        if len(dumped.files.files) > MOST_FILES or len(files) > MOST_LIST_BYTES:
            raise RefnetError(
                f"{self.name} is not backed up: {show(str(self.folder))} holds more than {MOST_FILES:,} files and "
                f"folders, or their names are longer than {MOST_LIST_BYTES >> 20} MiB",
                "Move a part of it elsewhere.",
            )
        return files

    def _details(self, dumped: Dumped) -> dict[str, object]:
        return {
            **dumped.files.totals,
            "folder": show(str(self.folder), 4096),
            "state": dumped.state.hexdigest(),
            "settled": dumped.state.settled,
        }


_VARIABLES = {SourceName.CONFIG: "REFNET_CONFIG_DIR", SourceName.OBSIDIAN: "REFNET_VAULT_DIR"}


def _unchanged(last: OpenArtifact, root: int, only: Collection[str] | None, created: datetime) -> Made | None:
    """What to say of the open folder `root` where it is still exactly what `last` holds, whose bytes are right."""
    manifest = last.manifest
    if not manifest or not manifest.details.get("settled"):
        return None
    state = state_of(root, only)
    if not state or state.hexdigest() != manifest.details.get("state"):
        return None
    digest = sha256()
    with last.open() as archive:
        while block := archive.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != manifest.sha256:
        return None
    details = {**manifest.details, "shares_bytes_with": manifest.name}
    return Made(created, details, last.files(), manifest.unchecked)


def _first(notes: list[str]) -> list[str]:
    return notes if len(notes) <= _NOTES else [*notes[:_NOTES], f"{len(notes) - _NOTES} more of this kind"]
