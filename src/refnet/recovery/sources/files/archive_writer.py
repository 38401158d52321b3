"""Writes the archive of a folder: each file read once, its digest that of exactly the bytes that went in."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from refnet.files import OPEN_FILE
from refnet.recovery.model.source import Progress
from refnet.recovery.sources.files.fingerprint import TreeState
from refnet.recovery.sources.files.gzip_members import MEMBER_BYTES, ChainWriter
from refnet.recovery.sources.files.listing import FILE_MODE, FOLDER_MODE, FileList, Kind, Listed
from refnet.recovery.sources.files.member_names import leads_inside, show
from refnet.recovery.sources.files.tar_headers import END, header, padding
from refnet.recovery.sources.files.walk import Found, walk

#: How often a file that changes while it is read is read before its last reading is kept, and reported.
_TRIES = 3
_SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass
class Dumped:
    """What `dump` wrote and met.

    `unreadable`: what it could not read, and why; then the archive is worth nothing. `notes`: a sentence for each
    entry that is not in the archive, or not as it should be.
    """

    files: FileList
    state: TreeState
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Read(NamedTuple):
    status: os.stat_result
    size: int
    digest: str
    at: int
    steady: bool


def dump(root: int, only: Collection[str] | None, out: BinaryIO, jobs: int, progress: Progress) -> Dumped:
    """Write the tar.gz of the open folder `root` to `out`; of `only` these entries where it is given.

    `root` itself becomes the member `.` unless `only` is given.
    """
    with ChainWriter(out, jobs) as chain:
        writer = _Writer(chain, progress)
        if only is None:
            writer.add_folder(".", os.fstat(root))
        for found in walk(root, only):
            writer.add(found)
        chain.write(END)
        chain.finish()
    return Dumped(
        FileList(tuple(writer.files), tuple(chain.members)), writer.state, writer.unreadable, writer.notes
    )


class _Writer:
    def __init__(self, chain: ChainWriter, progress: Progress) -> None:
        self.files: list[Listed] = []
        self.state = TreeState()
        self.unreadable: list[str] = []
        self.notes: list[str] = []
        self._chain = chain
        self._progress = progress
        self._told = 0

    def add(self, found: Found) -> None:
        """Write one entry; what cannot be read is noted by name."""
        try:
            if found.error:
                raise found.error
            if found.kind is Kind.FILE:
                self._add_file(found)
            elif found.kind is Kind.FOLDER:
                self.add_folder(found.path, os.stat(found.name, dir_fd=found.folder, follow_symlinks=False))
            elif found.kind is Kind.LINK:
                self._add_link(found)
            else:
                self.notes.append(f"{show(found.path)} is no file, folder or link: it is not in the archive")
        except FileNotFoundError:
            self.notes.append(f"{show(found.path)} vanished while the folder was read")
        except OSError as error:
            self.unreadable.append(f"{show(found.path)} ({error.strerror})")
        if self._chain.raw - self._told >= 8 * MEMBER_BYTES:
            self._told = self._chain.raw
            self._progress("reading", self._told, None)

    def add_folder(self, path: str, status: os.stat_result) -> None:
        raw, mode, at = os.fsencode(path), status.st_mode & FOLDER_MODE, self._chain.raw
        self._chain.write(_header(raw, Kind.FOLDER, status, 0, mode))
        self._list(path, Kind.FOLDER, status, 0, mode, at)
        self.state.add(raw, status)

    def _add_link(self, found: Found) -> None:
        status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        target, raw, at = (
            os.readlink(found.name, dir_fd=found.folder),
            os.fsencode(found.path),
            self._chain.raw,
        )
        self.state.add(raw, status)
        if not leads_inside(found.path, target):
            self.notes.append(
                f"{show(found.path)} is a link that leads outside ({show(target)}): "
                "neither it nor what it leads to is in the archive"
            )
            return
        self._chain.write(_header(raw, Kind.LINK, status, 0, 0o777, os.fsencode(target)))
        self._list(found.path, Kind.LINK, status, 0, 0o777, at, target=target)

    def _add_file(self, found: Found) -> None:
        raw = os.fsencode(found.path)
        descriptor = os.open(found.name, OPEN_FILE, dir_fd=found.folder)
        try:
            read = self._copy(raw, descriptor)
        finally:
            os.close(descriptor)
        status = read.status
        if not read.steady:
            self.notes.append(
                f"{show(found.path)} changed each of the {_TRIES} times that it was read: "
                "the archive may hold a mixture of its versions"
            )
        if status.st_mode & _SET_ID:
            self.notes.append(
                f"{show(found.path)} carries a set-user-ID or set-group-ID bit, which is not kept"
            )
        self._list(found.path, Kind.FILE, status, read.size, status.st_mode & FILE_MODE, read.at, read.digest)
        self.state.add(raw, status, steady=read.steady)

    def _list(
        self,
        path: str,
        kind: Kind,
        status: os.stat_result,
        size: int,
        mode: int,
        at: int,
        digest: str = "",
        target: str = "",
    ) -> None:
        self.files.append(
            Listed(
                path, kind, size, mode, status.st_mtime_ns, status.st_uid, status.st_gid, at, digest, target
            )
        )

    def _copy(self, raw: bytes, descriptor: int) -> _Read:
        """Write header and content; again, under the same name, when the file changed meanwhile: the last counts."""
        for left in range(_TRIES - 1, -1, -1):
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise FileNotFoundError
            if before.st_size <= MEMBER_BYTES:
                data = os.read(descriptor, before.st_size + 1)
                steady = len(data) == before.st_size and _same(before, os.fstat(descriptor))
                if steady or not left:
                    return self._write_whole(raw, before, data, steady=steady)
            else:
                read = self._write_stream(raw, before, descriptor)
                if read.steady or not left:
                    return read
            os.lseek(descriptor, 0, os.SEEK_SET)
        raise AssertionError("unreachable")

    def _write_whole(self, raw: bytes, status: os.stat_result, data: bytes, *, steady: bool) -> _Read:
        at, size = self._chain.raw, len(data)
        head = _header(raw, Kind.FILE, status, size, status.st_mode & FILE_MODE)
        self._chain.write(head, data, padding(size))
        return _Read(status, size, sha256(data).hexdigest(), at, steady)

    def _write_stream(self, raw: bytes, status: os.stat_result, descriptor: int) -> _Read:
        """A large file, block by block: as many bytes as its header says, zeros where it became shorter."""
        at, size = self._chain.raw, status.st_size
        digest = sha256()
        self._chain.write(_header(raw, Kind.FILE, status, size, status.st_mode & FILE_MODE))
        left, short = size, False
        while left:
            data = os.read(descriptor, min(left, MEMBER_BYTES))
            if not data:
                short, data = True, bytes(min(left, MEMBER_BYTES))
            digest.update(data)
            self._chain.write(data)
            left -= len(data)
        self._chain.write(padding(size))
        steady = not short and _same(status, os.fstat(descriptor))
        return _Read(status, size, digest.hexdigest(), at, steady)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )


def _header(
    raw: bytes, kind: Kind, status: os.stat_result, size: int, mode: int, target: bytes = b""
) -> bytes:
    return header(
        raw,
        kind,
        size=size,
        mode=mode,
        mtime=status.st_mtime_ns // 1_000_000_000,
        uid=status.st_uid,
        gid=status.st_gid,
        target=target,
    )
