"""Makes the artifact of a folder: shares the bytes of the last one if nothing changed, else archives and looks twice.

The second look checks independently that the list of files matches the folder: it walks by the standard library instead
of the archive's code, so faults there are detected. Names missing from the list are unsettled if the folder changed
between the two walks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from xxhash import xxh3_128

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
from refnet.core.files import OPEN_FILE, OPEN_FOLDER, forget_cached, identity
from refnet.core.member_names import leads_inside, parent, show, some
from refnet.sources.folder.archive_writer import Dumped, dump, stamp
from refnet.sources.folder.listing import FileKind, Listed
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
from refnet.sources.folder.target import explain_os_errors, interrupted_restores, own_work_folders
from refnet.sources.folder.tree import fingerprint_of
from refnet.sources.folder.walk import FolderState, FolderStates, changed_folders

_NOTES = 20
_SHOWN = 3
_VARIABLES = {SourceName.CONFIG: "REFNET_CONFIG_DIR", SourceName.OBSIDIAN: "REFNET_VAULT_DIR"}
_BLOCK = 1 << 20
_KINDS = {stat.S_IFREG: FileKind.FILE, stat.S_IFDIR: FileKind.FOLDER, stat.S_IFLNK: FileKind.LINK}


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
                return shared
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
            created, details, self._list(dumped), unchecked, compared=self._compared(dumped.files.raw_bytes)
        )

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
        with explain_os_errors(self.folder):
            if entries_digest(root, scope) != manifest.details.get("entries"):
                return None
        with last.open() as archive:
            forget_cached(archive)
            same_file = identity(archive)
            digest = sha256()
            while block := archive.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != manifest.sha256:
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
            root = os.open(self.folder, OPEN_FOLDER & ~os.O_NOFOLLOW)
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


def _first(notes: list[str]) -> list[str]:
    return notes if len(notes) <= _NOTES else [*notes[:_NOTES], f"{len(notes) - _NOTES} more of this kind"]


class _Entry(NamedTuple):
    path: str
    #: Its name in the open folder.
    name: str
    folder: int
    kind: FileKind
    status: os.stat_result


@dataclass
class SecondLook:
    """The result of a second look."""

    #: Over path, kind, size and time of everything.
    digest: str = ""
    #: A sentence for each entry that did not change meanwhile, and is not as the list says.
    wrong: list[str] = field(default_factory=list)
    #: The paths that are not in the list, in folders that changed meanwhile.
    unsettled: list[str] = field(default_factory=list)


def entries_digest(root: int, scope: Scope) -> str:
    """Digest of a second look at `scope` of the open folder `root`; OSError if unreadable."""
    digest = xxh3_128()
    for entry in _entries(root, scope):
        digest.update(_record(entry))
    return digest.hexdigest()


def look(root: int, scope: Scope, dumped: Dumped, *, contents: bool) -> SecondLook:
    """Compare `scope` of the open folder `root` with the written archive; OSError if unreadable.

    contents: read every file again, and compare its SHA-256.
    """
    found, digest, files = SecondLook(), xxh3_128(), dumped.files.files
    numbers = {listed.path: number for number, listed in enumerate(files)}
    there = bytearray(len(files))
    for entry in _entries(root, scope):
        digest.update(_record(entry))
        number = numbers.get(entry.path)
        if number is None:
            if parent(entry.path) in numbers or "/" not in entry.path:
                _missing(entry, dumped.states, found)
            continue
        there[number] = 1
        if dumped.stamps[number] == stamp(entry.status):
            found.wrong += (
                f"{show(entry.path)} {why}" for why in _differs(entry, files[number], contents=contents)
            )
    lost = [listed.path for listed, is_there in zip(files, there, strict=True) if not is_there]
    found.wrong += _invented(root, [path for path in lost if path != "."], dumped.states)
    found.digest = digest.hexdigest()
    return found


def _entries(root: int, scope: Scope) -> Iterator[_Entry]:
    """Yield the entries that an archive of `scope` of the open folder `root` should contain, by name."""
    leaves_out, only = scope.leaves_out, scope.only
    device = os.fstat(root).st_dev if scope.one_file_system else None
    for top, folders, others, handle in os.fwalk(".", dir_fd=root, onerror=_unreadable):
        prefix, below = top[2:] + "/" if top != "." else "", list[str]()
        for name in sorted((*folders, *others)):
            if not prefix and (name in scope.own or (only is not None and name not in only)):
                continue
            entry = _entry(prefix, name, handle)
            if entry is None:
                continue
            folder = entry.kind is FileKind.FOLDER
            if leaves_out and (prefix or only is None) and leaves_out(entry.path + "/" * folder):
                continue
            if folder and device in (None, entry.status.st_dev):
                below.append(name)
            yield entry
        folders[:] = below


def _entry(prefix: str, name: str, folder: int) -> _Entry | None:
    """An entry of an open folder; None if archives do not store its kind, or it is gone."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is FileKind.LINK and not leads_inside(prefix + name, os.readlink(name, dir_fd=folder)):
            return None
    except FileNotFoundError:
        return None
    return _Entry(prefix + name, name, folder, kind, status) if kind else None


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _record(entry: _Entry) -> bytes:
    is_folder, status = entry.kind is FileKind.FOLDER, entry.status
    size, time = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return b"%b\0%b %d %d\0" % (os.fsencode(entry.path), entry.kind.encode(), size, time)


def _missing(entry: _Entry, states: FolderStates, found: SecondLook) -> None:
    """Record an entry missing from the list: a fault if its folder is unchanged since it was read."""
    state = states.get(parent(entry.path))
    if state is None or state[:-1] == FolderState.of(entry.folder)[:-1]:
        found.wrong.append(f"{show(entry.path)} is not in the list")
    else:
        found.unsettled.append(entry.path)


def _invented(root: int, lost: list[str], states: FolderStates) -> Iterator[str]:
    """Sentences about listed paths that are not in their folder, although that did not change."""
    changed = {*changed_folders(root, states)[0]} if lost else set()
    for path in lost:
        above = parent(path)
        if above in states and above not in changed:
            yield f"{show(path)} is in the list, but not in the folder"


def _differs(entry: _Entry, listed: Listed, *, contents: bool) -> Iterator[str]:
    status = entry.status
    if listed.kind is not entry.kind:
        yield f"is a {listed.kind} in the list, but a {entry.kind} in the folder"
    elif listed.kind is FileKind.FILE and listed.size != status.st_size:
        yield f"has {listed.size:,} bytes in the list, but {status.st_size:,} in the folder"
    elif listed.mtime_ns != status.st_mtime_ns:
        yield "has a different time in the list"
    elif contents and listed.kind is FileKind.FILE and _sha256(entry) not in (listed.sha256, None):
        yield "has different content in the list"


def _sha256(entry: _Entry) -> str | None:
    """Return the digest of a file, read from the disk; None if it changed meanwhile."""
    digest = sha256()
    try:
        with open(
            entry.name, "rb", opener=lambda name, _: os.open(name, OPEN_FILE, dir_fd=entry.folder)
        ) as file:
            forget_cached(file)
            while block := file.read(_BLOCK):
                digest.update(block)
            return digest.hexdigest() if stamp(os.fstat(file.fileno())) == stamp(entry.status) else None
    except FileNotFoundError:
        return None
