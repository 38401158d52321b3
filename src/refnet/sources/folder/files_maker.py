"""Makes the artifact of a folder: shares the bytes of the last one if nothing changed, else archives and looks twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

from refnet.catalog.artifact import (
    MOST_FILES,
    MOST_LIST_BYTES,
    Made,
    OpenArtifact,
    Progress,
    TransientError,
    Turn,
    at_once,
    silent,
)
from refnet.catalog.manifest import Compared
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import forget_cached, identity
from refnet.core.member_names import show, some
from refnet.core.memory import without_collections
from refnet.core.trust import open_folder
from refnet.sources.folder.archive_writer import Dumped, dump
from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.scope import (
    EVERYTHING,
    ConfigEntry,
    ExcludedEntries,
    Scope,
    entries_of,
    everything_excluded,
    listed_and_excluded,
    looked,
    present,
    rules_of,
)
from refnet.sources.folder.second_look import SecondLook, entries_digest, look
from refnet.sources.folder.target import explain_os_errors, interrupted_restores, own_work_folders
from refnet.sources.folder.tree import fingerprint_of
from refnet.store.backup_folder import FSTAB, unmounted, unmounted_in

_NOTES = 20
_SHOWN = 3
_VARIABLES = {SourceName.CONFIG: "REFNET_CONFIG_DIR", SourceName.OBSIDIAN: "REFNET_VAULT_DIR"}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FilesMaker:
    """A folder, or some of its entries, as a source."""

    name: SourceName
    folder: Path
    #: The entries of the folder to back up; None: all of it.
    entries: tuple[ConfigEntry, ...] | None
    #: The journals of restores: a backup reports an interrupted one.
    swaps: Path | None = None
    #: Threads that compress.
    jobs: int = 1
    #: Returns the newest complete artifact: if nothing changed since, its bytes are shared; if the folder had files
    #: then and is empty now, the backup fails.
    last: Callable[[], OpenArtifact | None] = lambda: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: What is left out of the folder or its entries.
    scope: Scope = EVERYTHING
    #: The most bytes of files that are read again after the archive was written, to compare their contents too.
    digest_up_to: int = 0

    def digesting(self, up_to: int) -> Self:
        return replace(self, digest_up_to=up_to)

    @without_collections()
    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        """Write the archive, or nothing if the folder equals `last`, which the details then name.

        RefnetError if the folder or a required entry is missing, or a file cannot be read.
        """
        turn()
        interrupted = interrupted_restores(self.swaps, self.name, self.folder) if self.swaps else ()
        last = self.last()
        created = self.now()
        with self._opened() as root:
            only, absent = (None, ()) if self.entries is None else self._present(root, interrupted)
            scope = replace(self.scope.of(only), own=self._own())
            if last and not interrupted and (shared := self._unchanged(last, root, scope, created)):
                return replace(shared, warnings=self._unmounted())
            dumped = dump(root, scope, out, self.jobs, progress)
            seen = SecondLook() if dumped.unreadable else self._second_look(root, scope, dumped)
        if dumped.unreadable:
            raise RefnetError(
                f"{self.name} is not backed up: {some(dumped.unreadable)} cannot be read",
                "Make them readable for this user (or run as their owner), then retry.",
            )
        if dumped.left_out and not dumped.files.count(FileKind.FILE):
            raise everything_excluded(self.name, self.folder)
        self._check_not_emptied(dumped, last)
        notes = [
            f"{show(path)} was created while the folder was being read: not in the archive"
            for path in seen.unsettled
        ]
        unchecked = (*interrupted, *absent, *_first([*notes, *dumped.notes]))
        details = {**self._details(dumped), "entries": seen.digest}
        return Made(
            created, details, self._list(dumped), unchecked, warnings=self._unmounted(),
            compared=self._compared(dumped.files.raw_bytes),
        )  # fmt: skip

    def _unmounted(self) -> tuple[str, ...]:
        """Warnings about disks of fstab that are missing in the folder, or above it."""
        above, folder = unmounted(self.folder), self.folder.resolve()
        found = (above,) if above else (one for one in unmounted_in(folder) if self._reads(one, folder))
        return tuple(
            f"{show(str(one))} is in {FSTAB} and not mounted: what is on it is not backed up" for one in found
        )

    def _reads(self, mount: Path, folder: Path) -> bool:
        """Whether the folder `mount` below `folder` would be backed up."""
        parts = mount.relative_to(folder).parts
        left_out = self.scope.leaves_out or (lambda _path: False)
        excluded = any(left_out("/".join(parts[:depth]) + "/") for depth in range(1, len(parts) + 1))
        entries = {entry for one in self.entries or () for entry in one.names}
        return not (excluded or self.scope.one_file_system or (entries and parts[0] not in entries))

    def _compared(self, size: object) -> Compared:
        """Return how a folder with files of `size` bytes is compared."""
        digests = isinstance(size, int) and size <= self.digest_up_to
        return Compared.DIGESTED if digests else Compared.COUNTED

    def _second_look(self, root: int, scope: Scope, dumped: Dumped) -> SecondLook:
        """Compare the open folder with the list of files; TransientError (DAMAGED) if the list is wrong."""
        with explain_os_errors(self.folder):
            seen = look(
                root, scope, dumped, contents=self._compared(dumped.files.raw_bytes) is Compared.DIGESTED
            )
        if seen.wrong:
            raise TransientError(
                f"{self.name} is not backed up: its list of files differs from the folder: "
                f"{'; '.join(seen.wrong[:_SHOWN])}{f'; {len(seen.wrong) - _SHOWN} more' if len(seen.wrong) > _SHOWN else ''}",
                "Nothing was published. Check the disk and this machine's memory, then retry.",
                Exit.DAMAGED,
            )
        return seen

    def _own(self) -> frozenset[str]:
        """RefNet's work folders in the folder; empty if a journal is invalid, which `interrupted` reports."""
        with suppress(RefnetError, OSError):
            if self.swaps:
                return own_work_folders(self.swaps, self.name, self.folder.resolve())
        return frozenset()

    def _unchanged(self, last: OpenArtifact, root: int, scope: Scope, created: datetime) -> Made | None:
        """The result if the open folder `root` still equals the intact artifact `last`, else None."""
        manifest = last.manifest
        if not manifest or not manifest.details.get("settled") or not looked(manifest.details):
            return None  # an earlier version did not look at ACLs and attributes
        left_out = ExcludedEntries()
        fingerprint = fingerprint_of(root, scope, left_out)
        if not fingerprint or fingerprint.hexdigest() != manifest.details.get("state"):
            return None
        if manifest.compared not in {Compared.DIGESTED, self._compared(manifest.details.get("raw_bytes"))}:
            return None
        with ThreadPoolExecutor(1) as beside:
            stored = beside.submit(_stored, last)
            with explain_os_errors(self.folder):
                if entries_digest(root, scope) != manifest.details.get("entries"):
                    return None
            same_file, digest = stored.result()
        if digest != manifest.sha256:
            return None
        details = {**manifest.details, "shares_bytes_with": manifest.name, **self._excluded(left_out)}
        packed = last.packed_files()
        files = None if packed else last.files()
        return Made(
            created, details, files, manifest.unchecked,
            compared=manifest.compared, same_file=same_file, packed_files=packed,
        )  # fmt: skip

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            root = open_folder(self.folder)
        except OSError as error:
            raise RefnetError(
                f"the folder of {self.name} cannot be read: {show(str(self.folder))} ({error.strerror})",
                f"Restore or mount it, or set {_VARIABLES.get(self.name, f'folders.{self.name}.path')} to its path.",
            ) from None
        try:
            yield root
        finally:
            os.close(root)

    def _present(self, root: int, interrupted: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
        """The existing entries; a missing one may be in the work folder of an interrupted restore."""
        try:
            found, absent = present(self.entries or (), root)
        except RefnetError as error:
            if not interrupted:
                raise
            raise RefnetError(error.message, f"{interrupted[0]}.", error.code) from error
        if excluded := listed_and_excluded(self.scope, found):
            raise RefnetError(
                f"{self.name} is not backed up: exclude leaves out {some(excluded)}, which {entries_of(self.name)} lists",
                f"Remove it from {entries_of(self.name)}, or the rule from {rules_of(self.name)}.",
                Exit.USAGE,
            )
        return found, absent

    def _check_not_emptied(self, dumped: Dumped, last: OpenArtifact | None) -> None:
        manifest = last.manifest if last else None
        before = manifest.details.get("files", 0) if manifest else 0
        if manifest and before and not dumped.files.count(FileKind.FILE):
            raise RefnetError(
                f"{self.name} is not backed up: {show(str(self.folder))} is empty, "
                f"and {manifest.name} has {before} files",
                "Is it mounted? If it should be empty, put one file into it.",
            )

    def _list(self, dumped: Dumped) -> bytes:
        """The list of files; RefnetError if it is too large to be read later."""
        files = dumped.files.to_json()
        if len(dumped.files.files) > MOST_FILES or len(files) > MOST_LIST_BYTES:
            raise RefnetError(
                f"{self.name} is not backed up: {show(str(self.folder))} has more than {MOST_FILES:,} files and "
                f"folders, or their names are longer than {MOST_LIST_BYTES >> 20} MiB",
                "Move a part of it elsewhere.",
            )
        return files

    def _details(self, dumped: Dumped) -> dict[str, object]:
        return {
            **dumped.files.totals,
            "folder": show(str(self.folder), 4096),
            "state": dumped.fingerprint.hexdigest(),
            "settled": dumped.fingerprint.settled,
            "unkept": dumped.unkept.to_json(),
            **self._excluded(dumped.left_out),
        }

    def _excluded(self, left_out: ExcludedEntries) -> dict[str, object]:
        """Details about what the rules excluded."""
        scope = self.scope
        excluded = {"rules": list(scope.exclude), **left_out.to_json()} if scope.exclude else None
        return {"excluded": excluded, "one_file_system": scope.one_file_system or None}


def _stored(artifact: OpenArtifact) -> tuple[tuple[int, ...], str]:
    """Return the identity of the file of `artifact`, and its SHA-256 as the disk returns it."""
    with artifact.open() as archive:
        forget_cached(archive)
        same_file, digest = identity(archive), sha256()
        while block := archive.read(_BLOCK):
            digest.update(block)
    return same_file, digest.hexdigest()


def _first(notes: list[str]) -> list[str]:
    return notes if len(notes) <= _NOTES else [*notes[:_NOTES], f"{len(notes) - _NOTES} more of this kind"]
