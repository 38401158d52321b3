"""Files that are whole or not there: hidden while they are written, read back, placed, never overwriting.

The order that makes a crash at any step harmless: hidden name → flush → fsync → read back and compare →
place under the final name → fsync of the folder. A living writer holds a kernel lock on its hidden file, so
that what a killed one left behind can be told from what is being written now.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from refnet.errors import Exit, RefnetError
from refnet.files import explain, explained, open_file, sync_folder
from refnet.locks import PROBE_SECONDS, take
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.stores.readback import ReadBack

#: Read and written at once, in bytes.
CHUNK = 1 << 20

#: What a file system answers that has no hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def digest(reader: IO[bytes]) -> tuple[str, int]:
    """The SHA-256 of everything in `reader`, in hex, and its length in bytes."""
    sha = hashlib.sha256()
    size = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := reader.readinto(view):  # type: ignore[attr-defined]
        sha.update(view[:count])
        size += count
    return sha.hexdigest(), size


def open_regular(path: Path, *, buffering: int = -1) -> IO[bytes]:
    """A reader of the regular file `path`; NotRegularError where it is a link, a folder, a FIFO or a device."""
    return os.fdopen(open_file(path), "rb", buffering)


def write_all(handle: int, data: bytes) -> None:
    """Write all of `data`, or raise the OSError that says why only a part of it was written."""
    while data:
        data = data[os.write(handle, data) :]


def append_lines(path: Path, text: str) -> bool:
    """Append the lines `text` to `path` durably; whether the file is new. A cut line at its end is closed first.

    OSError where they were not written completely; the file may then end in a cut line.
    """
    handle = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        size = os.fstat(handle).st_size
        cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        write_all(handle, (b"\n" if cut else b"") + text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    return size == 0


def open_cold(path: Path) -> IO[bytes]:
    """A reader of the regular file `path` that asks the disk, not the page cache, where the system lets us."""
    reader = open_regular(path, buffering=0)
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return reader


def alive(path: Path) -> bool:
    """Whether a living process is still at work on the hidden file `path`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # it was placed or removed while we looked
    except OSError:
        return False
    try:
        return not take(handle, shared=True)
    except OSError:
        return True
    finally:
        os.close(handle)


class HiddenFile(io.RawIOBase):
    """A new file under a hidden name, digested while it is written; gone on exit unless it was placed.

    Append only. Writes are gathered to `CHUNK` bytes. Errors of the operating system are RefnetErrors here,
    so that whoever writes need not know that this is a disk.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        super().__init__()
        self.path = folder / f"{HIDDEN_PREFIX}{secrets.token_hex(8)}{ending}"
        self._sha = hashlib.sha256()
        self._size = 0
        self._gathered = bytearray()
        self._placed = False
        with explained(self.path):
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with suppress(OSError):  # a file system without locks: a leftover there always looks alive
                take(self._handle, seconds=PROBE_SECONDS)
        self._read_back = ReadBack(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._placed:
            remove(self.path)
        self._read_back.close()
        os.close(self._handle)
        self._gathered.clear()
        self.close()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Append all of `data`; the number of its bytes."""
        count = len(data) if not isinstance(data, memoryview) else data.nbytes
        self._size += count
        if not self._gathered and count >= CHUNK:
            self._append(data)
        else:
            self._gathered += data
            if len(self._gathered) >= CHUNK:
                self.flush()
        return count

    def flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._append(gathered)

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        self._sha.update(data)
        view = memoryview(data).cast("B")
        with explained(self.path):
            while view:
                view = view[os.write(self._handle, view) :]
        self._read_back.written(self._size - len(self._gathered))

    def digest_so_far(self) -> bytes:
        """The SHA-256 of everything written until now, for who would otherwise compute it a second time."""
        self.flush()
        return self._sha.digest()

    def settle(self) -> tuple[str, int]:
        """Flush, fsync, read back and compare: the digest (SHA-256, hex) and the size of what the disk holds.

        RefnetError (damaged) where the disk gives back other bytes than were written.
        """
        self.flush()
        with explained(self.path):
            read, size = self._read_back.end()
        if (read, size) != (self._sha.hexdigest(), self._size):
            raise RefnetError(
                f"{self.path.parent} gives back other bytes than were written to it",
                "The disk or its memory is failing: check both, and choose another folder. Nothing was kept.",
                Exit.DAMAGED,
            )
        return read, size

    def place(self, name: str) -> bool:
        """Give the file its final `name` in the same folder; False where that name is taken."""
        self._placed = place(self.path, self.path.with_name(name))
        return self._placed


def place_beside(file: HiddenFile, name: str) -> None:
    """Give `file` a name that only RefNet takes, and make it last; RefnetError where somebody took it."""
    if not file.place(name):
        raise RefnetError(
            f"{name} appeared in {file.path.parent} while it was being published",
            "Keep other programs out of that folder, then run this again.",
        )
    sync_folder(file.path.parent)


def place(hidden: Path, final: Path) -> bool:
    """Rename `hidden` to `final` without ever overwriting; False where that name is taken."""
    try:
        if share(hidden, final):
            remove(hidden)
        else:
            _place_without_links(hidden, final)
    except FileExistsError:
        return False
    return True


def share(existing: Path, final: Path) -> bool:
    """Make `final` a second name of `existing`'s bytes; False where the file system has no hard links.

    FileExistsError where `final` is taken.
    """
    try:
        os.link(existing, final, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise explain(error, final) from error
        return False
    return True


def _place_without_links(hidden: Path, final: Path) -> None:
    """Reserve the name as our own, then rename over the reservation; FileExistsError where it is taken."""
    try:
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        hidden.replace(final)
    except FileExistsError:
        raise
    except OSError as error:
        raise explain(error, final) from error


@contextmanager
def hidden(path: Path) -> Iterator[Path]:
    """Rename `path` to a hidden name in its folder, which ends as `path` does, and hold its lock meanwhile."""
    away = path.with_name(f"{HIDDEN_PREFIX}{secrets.token_hex(8)}{path.suffix}")
    with explained(path):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        with suppress(OSError):
            take(handle, seconds=PROBE_SECONDS)
        with explained(path):
            path.rename(away)
        yield away
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove the file `path`, if it is there."""
    with explained(path):
        path.unlink(missing_ok=True)


def write_new(folder: Path, stem: str, ending: str, data: bytes) -> Path:
    """Write `data` to `stem` + `ending` in `folder`, or to the next free `stem_2` …; its path."""
    with HiddenFile(folder, ".part") as file:
        file.write(data)
        file.settle()
        for number in range(1, 1000):
            name = f"{stem}{f'_{number}' if number > 1 else ''}{ending}"
            if file.place(name):
                sync_folder(folder)
                return folder / name
    raise RefnetError(f"every name like {stem}{ending} is taken in {folder}", "Run it again in a second.")
