"""Writes the archive of a folder: reads each file once, and digests exactly the archived bytes."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO

from refnet.catalog.artifact import Progress, TransientError
from refnet.core import attributes
from refnet.core.attributes import NONE, Attributes
from refnet.core.files import OPEN_FILE, OPEN_FOLDER, descended, opened
from refnet.core.member_names import MAX_PART, ArchiveError, checked, leads_inside, show
from refnet.sources.folder.gzip_members import MEMBER_BYTES, MemberWriter
from refnet.sources.folder.listing import FILE_MODE, FileKind, FileList, Listed
from refnet.sources.folder.scope import HARD_LINKS, SET_ID, CountedMetadata, ExcludedEntries, Scope
from refnet.sources.folder.tar_archive import END, header, padding
from refnet.sources.folder.tree import Fingerprint, Record, recorded, same, stamp
from refnet.sources.folder.walk import EntryRun, FolderStates, WalkedEntry, changed_folders, runs, walk

#: How often a file is read that changes while it is read; the last copy stays, with a note.
_TRIES = 3
#: The most bytes of a file that is read and written at once.
_SMALL = 16 << 10
_SET_ID = stat.S_ISUID | stat.S_ISGID
#: The bytes that holes must save, and the unit of st_blocks.
_LEAST_SAVED, _SECTOR = 64 << 10, 512


@dataclass
class Dumped:
    """The result of `dump`."""

    files: FileList
    fingerprint: Fingerprint
    #: What could not be read, and why; if there is any, the archive is useless.
    unreadable: list[str] = field(default_factory=list)
    #: A sentence for each entry that is not in the archive, or not as it should be.
    notes: list[str] = field(default_factory=list)
    #: What the rules of the scope left out.
    left_out: ExcludedEntries = field(default_factory=ExcludedEntries)
    #: Metadata that is not in the archive.
    unkept: CountedMetadata = field(default_factory=CountedMetadata)
    #: The stamp of each entry of `files`, and the states of the folders, when they were read.
    stamps: Sequence[int] = ()
    states: FolderStates = field(default_factory=dict)


def dump(root: int, scope: Scope, out: BinaryIO, jobs: int, progress: Progress) -> Dumped:
    """Write the tar.gz of `scope` of the open folder `root` to `out`.

    `root` itself becomes the member `.`, unless the scope has only some of its entries.
    """
    left_out = ExcludedEntries()
    with MemberWriter(out, jobs) as tar:
        writer = _Writer(tar, progress)
        if scope.only is None:
            writer.add_folder(".", root)
        for run in runs(root, scope, left_out, writer.states):
            writer.add_run(run)
        unsettled = _settle(root, scope, writer)
        tar.write(END)
        tar.finish()
    notes = [
        *(
            f"{show(path)} is on another file system: its content is not in the archive"
            for path in left_out.mounts
        ),
        *(
            f"{show(path)} changed each of the {_TRIES} times that it was read: what was moved there meanwhile may be "
            "missing"
            for path in unsettled
        ),
        *writer.unkept.sentences("not kept"),
        *dict.fromkeys(writer.notes),  # a folder is read more than once
    ]
    listed, stamps = writer.result()
    unreadable = list(dict.fromkeys(writer.unreadable))
    files = FileList(listed, tuple(tar.members))
    return Dumped(
        files, writer.fingerprint, unreadable, notes, left_out, writer.unkept, stamps, writer.states
    )


def _settle(root: int, scope: Scope, writer: _Writer) -> list[str]:
    """Reread folders that changed since they were read; return those that changed every time.

    Otherwise a file that moves from an unread folder into one already read would be missed.
    """
    for _ in range(_TRIES - 1):
        changed, young = changed_folders(root, writer.states)
        if changed:
            writer.fingerprint.unsettle()
        for path in (*changed, *young):
            names = () if path == "." else path.split("/")
            with suppress(FileNotFoundError, NotADirectoryError), descended(root, names) as folder:
                part = scope if path == "." else scope.of(None, f"{path}/")
                for found in walk(folder, part, ExcludedEntries(), writer.states):
                    writer.add_again(found._replace(path=part.prefix + found.path))
        if not changed:
            return []
    return changed_folders(root, writer.states)[0]


class _Writer:
    def __init__(self, tar: MemberWriter, progress: Progress) -> None:
        self.files: list[Listed] = []
        self.fingerprint = Fingerprint()
        self.unreadable: list[str] = []
        self.notes: list[str] = []
        self.unkept = CountedMetadata()
        self.states: FolderStates = {}
        #: The stamp of each of `files`.
        self._stamps = array("q")
        #: Path → its number in `files`, once it is needed; and the numbers of those that were replaced.
        self._numbers: dict[str, int] = {}
        self._replaced: set[int] = set()
        self._linked: set[tuple[int, int]] = set()
        self._tar = tar
        self._progress = progress
        self._reported = 0

    def add_run(self, run: EntryRun) -> None:
        """Write the entries of a run."""
        since_ns = time.time_ns()
        for name in run.names:
            path, kind = run.prefix + name, run.kinds.get(name, FileKind.FILE)
            small = _small_file(run.folder, name, path) if kind is FileKind.FILE and not run.error else None
            if small is None:
                self.add(WalkedEntry(path, name, run.folder, kind, run.error))
                continue
            record, its_stamp, digest, member = small
            self.files.append(_listed(path, record, digest, self._tar.raw))
            self._stamps.append(its_stamp)
            self._tar.write(member)
            self._tar.end_entry(path, len(member))
            self.fingerprint.add_read(path, record, since_ns)
        self._report()

    def add(self, found: WalkedEntry) -> None:
        """Write one entry; unreadable ones become notes."""
        try:
            if found.error:
                raise found.error
            if len(raw := os.fsencode(found.path)) > MAX_PART:  # a shorter one is never refused
                checked(raw)  # what a reader refuses is not written
            if found.kind is FileKind.FILE:
                descriptor = os.open(found.name, OPEN_FILE, dir_fd=found.folder)
                try:
                    self._add_file(found.path, descriptor)
                finally:
                    os.close(descriptor)
            elif found.kind is FileKind.FOLDER:
                with opened(found.name, OPEN_FOLDER, found.folder) as folder:
                    self.add_folder(found.path, folder)
            elif found.kind is FileKind.LINK:
                self._add_link(found)
            else:
                self.notes.append(f"{show(found.path)} is not a file, folder or link: not in the archive")
        except FileNotFoundError:
            self.notes.append(f"{show(found.path)} vanished while the folder was read")
        except OSError as error:
            self.unreadable.append(f"{show(found.path)} ({error.strerror})")
        except ArchiveError:
            self.unreadable.append(
                f"{show(found.path, 40)} (its path is too long or too deep to be restored)"
            )
        self._report()

    def _report(self) -> None:
        if self._tar.raw - self._reported >= 8 * MEMBER_BYTES:
            self._reported = self._tar.raw
            self._progress("reading", self._reported, None)

    def add_again(self, found: WalkedEntry) -> None:
        """Write one entry if it is unread or was replaced; the last copy of a file counts."""
        if not self._numbers:
            self._numbers = {one.path: number for number, one in enumerate(self.files)}
        number, count = self._numbers.get(found.path), len(self.files)
        if number is not None:
            status, before = (
                os.stat(found.name, dir_fd=found.folder, follow_symlinks=False),
                self.files[number],
            )
            if self._stamps[number] == stamp(status):
                return
            if before.kind is not found.kind:
                raise TransientError(
                    f"{show(found.path)} was a {before.kind} and is a {found.kind or 'special file'} a moment later",
                    "Retry when no program replaces files by folders.",
                )
            if found.kind is not FileKind.FILE:
                return
        self.fingerprint.unsettle()
        self.add(found)
        if len(self.files) > count:
            self._numbers[found.path] = count
            self._replaced |= set() if number is None else {number}

    def result(self) -> tuple[tuple[Listed, ...], Sequence[int]]:
        """The list of files without superseded copies, and their stamps."""
        if self._replaced:
            kept = [number for number in range(len(self.files)) if number not in self._replaced]
            self.files = [self.files[number] for number in kept]
            self._stamps = array("q", [self._stamps[number] for number in kept])
        return tuple(self.files), self._stamps

    def add_folder(self, path: str, folder: int) -> None:
        status = os.fstat(folder)
        listed = Listed.of(path, FileKind.FOLDER, status, at=self._tar.raw).having(self._kept(path, folder))
        self._list(listed, status)
        if not same(status, os.fstat(folder)):
            self.fingerprint.unsettle()
        self.fingerprint.add(path, status)

    def _kept(self, path: str, handle: int) -> Attributes:
        """Attributes of an open file or folder; unsupported ones are counted."""
        kept, others = attributes.read(handle)
        for name in others:
            self.unkept.add(name, path)
        return kept

    def _add_link(self, found: WalkedEntry) -> None:
        status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        target = os.readlink(found.name, dir_fd=found.folder)
        self.fingerprint.add(found.path, status)
        if not leads_inside(found.path, target):
            self.notes.append(
                f"{show(found.path)} is a link that leads outside ({show(target)}): "
                "neither it nor its target is in the archive"
            )
            return
        listed = Listed.of(found.path, FileKind.LINK, status, at=self._tar.raw)
        self._list(listed._replace(target=target), status)

    def _list(self, listed: Listed, status: os.stat_result) -> None:
        self._tar.write(header(listed))
        self._note(listed, status)

    def _note(self, listed: Listed, status: os.stat_result) -> None:
        self.files.append(listed if listed.kept is NONE else listed._replace(kept=NONE))
        self._stamps.append(stamp(status))

    def _add_file(self, path: str, descriptor: int) -> None:
        """Write header and content; repeat under the same name if the file changed meanwhile: the last copy counts."""
        for _ in range(_TRIES):
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError
            kept, unkept = attributes.read(descriptor)
            if status.st_size <= MEMBER_BYTES:
                listed = self._copy_small(path, status, kept, descriptor)
                size = listed.size
            else:
                listed, size = self._copy_large(
                    Listed.of(path, FileKind.FILE, status, at=self._tar.raw).having(kept), descriptor
                )
            if steady := size == status.st_size and same(status, os.fstat(descriptor)):
                break
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            self.notes.append(
                f"{show(path)} changed each of the {_TRIES} times that it was read: "
                "the archive may contain a mixture of its versions"
            )
        if _is_sparse(status, descriptor):
            listed = listed._replace(sparse=True)
        for name in unkept:
            self.unkept.add(name, path)
        if status.st_mode & _SET_ID:
            self.unkept.add(SET_ID, path)
        if status.st_nlink > 1 and self._is_second(status):
            self.unkept.add(HARD_LINKS, path)
        self._note(listed, status)
        if not steady:
            self.fingerprint.unsettle()
        self.fingerprint.add(path, status)

    def _is_second(self, status: os.stat_result) -> bool:
        """Whether another archived path is the same file."""
        known = len(self._linked)
        self._linked.add((status.st_dev, status.st_ino))
        return len(self._linked) == known

    def _copy_small(self, path: str, status: os.stat_result, kept: Attributes, descriptor: int) -> Listed:
        """Write a file that fits in memory, with its actual size; return its entry."""
        data = os.read(descriptor, status.st_size + 1)
        mode, mtime_ns, digest = status.st_mode & FILE_MODE, status.st_mtime_ns, sha256(data).hexdigest()
        uid, gid, at = status.st_uid, status.st_gid, self._tar.raw
        listed = Listed(path, FileKind.FILE, len(data), mode, mtime_ns, uid, gid, at, digest).having(kept)
        entry = header(listed) + data + padding(len(data))
        self._tar.write(entry)
        self._tar.end_entry(path, len(entry))
        return listed

    def _copy_large(self, listed: Listed, descriptor: int) -> tuple[Listed, int]:
        """Write a file in blocks: exactly as many bytes as its header says, zeros if it shrank.

        Return its entry, and the number of bytes read.
        """
        digest, left, read = sha256(), listed.size, 0
        self._tar.end_member()
        self._tar.write(header(listed))
        self._tar.end_member()
        while left:
            data = os.read(descriptor, min(left, MEMBER_BYTES))
            read += len(data)
            data = data or bytes(min(left, MEMBER_BYTES))
            digest.update(data)
            self._tar.write(data)
            left -= len(data)
        self._tar.write(padding(listed.size))
        self._tar.end_member()
        return listed._replace(sha256=digest.hexdigest()), read


def _small_file(folder: int, name: str, path: str) -> tuple[Record, int, str, bytes] | None:
    """Read the file `name` of the open `folder` in the way that costs least; None if it is not small, plain and unchanged.

    Returns its record, its stamp, the SHA-256 of its content (hex), and its member: header, content and padding.
    """
    try:
        if len(raw := os.fsencode(path)) > MAX_PART:
            checked(raw)
        handle = os.open(name, OPEN_FILE, dir_fd=folder)
    except (ArchiveError, OSError):
        return None
    try:
        status = os.fstat(handle)
        is_plain = stat.S_ISREG(status.st_mode) and not status.st_mode & _SET_ID and status.st_nlink == 1
        if not is_plain or status.st_size > _SMALL or attributes.read(handle) != (NONE, ()):
            return None
        data = os.read(handle, status.st_size + 1)
        if len(data) != status.st_size or not same(status, os.fstat(handle)):
            return None
    except OSError:
        return None
    finally:
        os.close(handle)
    record, digest = recorded(status), sha256(data).hexdigest()
    member = header(_listed(path, record, digest, -1)) + data + padding(len(data))
    return record, stamp(status), digest, member


def _listed(path: str, record: Record, digest: str, at: int) -> Listed:
    """The entry of a file with the SHA-256 `digest`, whose header is at the byte `at` of the tar."""
    _, size, mode, uid, gid, mtime_ns, _ = record
    return Listed(path, FileKind.FILE, size, mode & FILE_MODE, mtime_ns, uid, gid, at, digest)


def _is_sparse(status: os.stat_result, descriptor: int) -> bool:
    """Whether the file has holes; a file system that compresses allocates less without any."""
    if status.st_size - status.st_blocks * _SECTOR < _LEAST_SAVED:
        return False
    with suppress(OSError):  # it was emptied meanwhile
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size
    return False
