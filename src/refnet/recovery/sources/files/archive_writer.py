"""Write the archive of a folder: read each file once, and digest exactly the bytes that go in."""

import os
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO

from refnet.files import OPEN_FILE, opened
from refnet.recovery.model.source import Progress
from refnet.recovery.sources.files.fingerprint import Fingerprint
from refnet.recovery.sources.files.gzip_members import MEMBER_BYTES, MemberWriter
from refnet.recovery.sources.files.listing import FILE_MODE, FOLDER_MODE, FileKind, FileList, Listed
from refnet.recovery.sources.files.member_names import leads_inside, show
from refnet.recovery.sources.files.scope import LeftOut, Scope
from refnet.recovery.sources.files.tar_headers import END, header, padding
from refnet.recovery.sources.files.walk import Found, walk

#: How often a file is read that changes while it is read; the last copy stays, with a note.
_TRIES = 3
_SET_ID = stat.S_ISUID | stat.S_ISGID


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
    left_out: LeftOut = field(default_factory=LeftOut)


def dump(root: int, scope: Scope, out: BinaryIO, jobs: int, progress: Progress) -> Dumped:
    """Write the tar.gz of `scope` of the open folder `root` to `out`.

    `root` itself becomes the member `.` unless the scope has only some of its entries.
    """
    left_out = LeftOut()
    with MemberWriter(out, jobs) as tar:
        writer = _Writer(tar, progress)
        if scope.only is None:
            writer.add_folder(".", os.fstat(root))
        for found in walk(root, scope, left_out):
            writer.add(found)
        tar.write(END)
        tar.finish()
    notes = [
        *(
            f"{show(path)} is on another file system: its content is not in the archive"
            for path in left_out.mounts
        ),
        *writer.notes,
    ]
    files = FileList(tuple(writer.files), tuple(tar.members))
    return Dumped(files, writer.fingerprint, writer.unreadable, notes, left_out)


class _Writer:
    def __init__(self, tar: MemberWriter, progress: Progress) -> None:
        self.files: list[Listed] = []
        self.fingerprint = Fingerprint()
        self.unreadable: list[str] = []
        self.notes: list[str] = []
        self._tar = tar
        self._progress = progress
        self._reported = 0

    def add(self, found: Found) -> None:
        """Write one entry; note what cannot be read."""
        try:
            if found.error:
                raise found.error
            if found.kind is FileKind.FILE:
                with opened(found.name, OPEN_FILE, found.folder) as descriptor:
                    self._add_file(found.path, descriptor)
            elif found.kind is FileKind.FOLDER:
                self.add_folder(found.path, os.stat(found.name, dir_fd=found.folder, follow_symlinks=False))
            elif found.kind is FileKind.LINK:
                self._add_link(found)
            else:
                self.notes.append(f"{show(found.path)} is not a file, folder or link: not in the archive")
        except FileNotFoundError:
            self.notes.append(f"{show(found.path)} vanished while the folder was read")
        except OSError as error:
            self.unreadable.append(f"{show(found.path)} ({error.strerror})")
        if self._tar.raw - self._reported >= 8 * MEMBER_BYTES:
            self._reported = self._tar.raw
            self._progress("reading", self._reported, None)

    def add_folder(self, path: str, status: os.stat_result) -> None:
        listed = Listed.of(path, FileKind.FOLDER, status, at=self._tar.raw)
        self._list(listed._replace(mode=listed.mode & FOLDER_MODE))
        self.fingerprint.add(path, status)

    def _add_link(self, found: Found) -> None:
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
        self._list(listed._replace(mode=0o777, target=target))

    def _list(self, listed: Listed) -> None:
        self._tar.write(header(listed))
        self.files.append(listed)

    def _add_file(self, path: str, descriptor: int) -> None:
        """Write header and content; again, under the same name, if the file changed meanwhile: the last copy counts."""
        for _ in range(_TRIES):
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError
            if status.st_size <= MEMBER_BYTES:
                listed = self._copy_small(path, status, descriptor)
                size = listed.size
            else:
                listed, size = self._copy_large(path, status, descriptor)
            if steady := size == status.st_size and _same(status, os.fstat(descriptor)):
                break
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            self.notes.append(
                f"{show(path)} changed each of the {_TRIES} times that it was read: "
                "the archive may contain a mixture of its versions"
            )
        if status.st_mode & _SET_ID:
            self.notes.append(f"{show(path)} has a set-user-ID or set-group-ID bit, which is not kept")
        self.files.append(listed)
        self.fingerprint.add(path, status, steady=steady)

    def _copy_small(self, path: str, status: os.stat_result, descriptor: int) -> Listed:
        """Write a file that fits in memory, with the size that was read."""
        data = os.read(descriptor, status.st_size + 1)
        listed = self._listed(path, status, len(data), sha256(data).hexdigest())
        self._tar.write(header(listed), data, padding(listed.size))
        return listed

    def _listed(self, path: str, status: os.stat_result, size: int, digest: str) -> Listed:
        mode, mtime_ns = status.st_mode & FILE_MODE, status.st_mtime_ns
        at = self._tar.raw
        return Listed(path, FileKind.FILE, size, mode, mtime_ns, status.st_uid, status.st_gid, at, digest)

    def _copy_large(self, path: str, status: os.stat_result, descriptor: int) -> tuple[Listed, int]:
        """Write a file block by block: as many bytes as its header says, zeros if it became shorter.

        Return its entry, and the number of bytes that were read.
        """
        listed = self._listed(path, status, status.st_size, "")
        digest, left, read = sha256(), listed.size, 0
        self._tar.write(header(listed))
        while left:
            data = os.read(descriptor, min(left, MEMBER_BYTES))
            read += len(data)
            data = data or bytes(min(left, MEMBER_BYTES))
            digest.update(data)
            self._tar.write(data)
            left -= len(data)
        self._tar.write(padding(listed.size))
        return listed._replace(sha256=digest.hexdigest()), read


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )
