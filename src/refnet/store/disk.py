"""Atomic files: written under a hidden name, read back, then renamed; never overwriting.

The order makes a crash at any step harmless: hidden name → flush → fsync → read back and compare → rename to the final
name → fsync of the folder. A writer locks its hidden file, which tells it from the leftover of a killed one.
"""

import errno
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, Self

from xxhash import xxh3_128

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import (
    OPEN_FOLDER,
    explain,
    explained,
    forget_cached,
    make_folder,
    open_file,
    opened,
    replace_in,
    sync_folder,
    write_all,
)
from refnet.core.locks import PROBE_SECONDS, take

#: Bytes that are read or written at once.
CHUNK = 1 << 20
#: Bytes that are read back at once, at least.
STEP = 32 << 20

#: Errors of a file system without hard links.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def digest(reader: IO[bytes]) -> tuple[str, int]:
    """Return the SHA-256 (hex) and the length in bytes of everything in `reader`."""
    sha = hashlib.sha256()
    size = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := reader.readinto(view):  # type: ignore[attr-defined]
        sha.update(view[:count])
        size += count
    return sha.hexdigest(), size


def open_regular(path: Path, *, buffering: int = -1) -> IO[bytes]:
    """Open the regular file `path` for reading. NotRegularError for a link, a folder, a FIFO or a device."""
    return os.fdopen(open_file(path), "rb", buffering)


def append_lines(path: Path, text: str) -> bool:
    """Append the lines `text` to `path` durably; return True if the file is new. First end a line that was cut short.

    OSError if they were not written completely; the file may then end in a cut line.
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
    """Open the regular file `path` to read it from the disk, not from the page cache, if the system supports that."""
    reader = open_regular(path, buffering=0)
    forget_cached(reader)
    return reader


def in_use(path: Path) -> bool:
    """Return True if a process is still writing the hidden file `path`."""
    try:
        handle = open_file(path)
    except FileNotFoundError:
        return True  # it was renamed or removed meanwhile
    except OSError:
        return False
    try:
        return not take(handle, shared=True)
    except OSError:
        return True
    finally:
        os.close(handle)


class OnDisk(NamedTuple):
    """Size and digest of a file, read from the disk."""

    #: XXH3, to compare with what was written: it costs the writer a tenth of a SHA-256.
    xxh3: bytes
    sha256: bytes
    #: In bytes.
    size: int


class ReadBack:
    """Digests the append-only file `handle` as the disk returns it: flushed, then read past the page cache.

    A thread follows large files; `until` raises its OSErrors.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._xxh3, self._sha = xxh3_128(), hashlib.sha256()
        self._read = 0
        self._pool = ThreadPoolExecutor(1, "read-back")
        self._last: Future[None] | None = None

    def written(self, size: int) -> None:
        """Report that the file has `size` bytes now."""
        size -= size % CHUNK
        if size - self._read >= STEP and (self._last is None or self._last.done()):
            self._last = self._pool.submit(self._follow, size)

    def until(self, size: int) -> OnDisk:
        """Digest of the first `size` bytes (everything written); fewer if the disk returns fewer.

        The last bytes are read again after further writes: only complete pages can be dropped from the page cache.
        """
        if self._last:
            self._last.result()
        self._follow(size - size % CHUNK)
        tail = os.pread(self._handle, size - self._read, self._read)
        xxh3, sha = self._xxh3.copy(), self._sha.copy()
        xxh3.update(tail)
        sha.update(tail)
        return OnDisk(xxh3.digest(), sha.digest(), self._read + len(tail))

    def close(self) -> None:
        """Wait until the thread has stopped using the handle."""
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, end: int) -> None:
        os.fsync(self._handle)
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._handle, self._read, 0, os.POSIX_FADV_DONTNEED)
        while count := min(CHUNK, end - self._read):
            data = os.pread(self._handle, count, self._read)
            if not data:
                return
            self._xxh3.update(data)
            self._sha.update(data)
            self._read += len(data)


class HiddenFile(io.RawIOBase):
    """A new file under a hidden name, digested while it is written; removed on exit unless it was renamed.

    Append only, buffered to `CHUNK` bytes. Errors of the operating system are RefnetErrors.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        super().__init__()
        self.path = folder / f"{HIDDEN_PREFIX}{secrets.token_hex(8)}{ending}"
        self._xxh3 = xxh3_128()
        self._size = 0
        self._buffer = bytearray()
        self._renamed = False
        with explained(self.path):
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with suppress(OSError):  # a file system without locks: a leftover there always looks in use
                take(self._handle, seconds=PROBE_SECONDS)
        self._read_back = ReadBack(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._renamed:
            remove(self.path)
        self._read_back.close()
        os.close(self._handle)
        self._buffer.clear()
        self.close()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Append all of `data`; return its size in bytes."""
        count = len(data) if not isinstance(data, memoryview) else data.nbytes
        self._size += count
        if not self._buffer and count >= CHUNK:
            self._append(data)
        else:
            self._buffer += data
            if len(self._buffer) >= CHUNK:
                self.flush()
        return count

    def flush(self) -> None:
        if self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            self._append(buffer)

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        self._xxh3.update(data)
        with explained(self.path):
            write_all(self._handle, data)
        self._read_back.written(self._size - len(self._buffer))

    def digest_so_far(self) -> bytes:
        """Return the SHA-256 of everything written until now, read back from the disk. RefnetError as from `sync`."""
        return self._synced().sha256

    def sync(self) -> tuple[str, int]:
        """Flush, fsync, read back and compare; return the digest (SHA-256, hex) and the size on the disk.

        RefnetError (DAMAGED) if the disk returns other bytes than were written.
        """
        found = self._synced()
        return found.sha256.hex(), found.size

    def _synced(self) -> OnDisk:
        self.flush()
        with explained(self.path):
            found = self._read_back.until(self._size)
        if (found.xxh3, found.size) != (self._xxh3.digest(), self._size):
            raise RefnetError(
                f"{self.path.parent}: data read back differ from the data written",
                "The disk or the memory is failing: check both, and choose another folder. Nothing was kept.",
                Exit.DAMAGED,
            )
        return found

    def rename(self, name: str) -> bool:
        """Rename the file to its final `name`; return False if that name is taken."""
        self._renamed = rename(self.path, self.path.with_name(name))
        return self._renamed

    def replace(self, name: str) -> None:
        """Rename the file to `name` durably, also over a file of that name."""
        with explained(self.path.with_name(name)):
            self.path.replace(self.path.with_name(name))
        self._renamed = True
        sync_folder(self.path.parent)


def publish(file: HiddenFile, name: str) -> None:
    """Rename `file` to `name` durably. RefnetError if another program took that name."""
    if not file.rename(name):
        raise RefnetError(
            f"{name} appeared in {file.path.parent} while it was being published",
            "Keep other programs out of that folder, then retry.",
        )
    sync_folder(file.path.parent)


def rename(hidden: Path, final: Path) -> bool:
    """Rename `hidden` to `final` without overwriting; return False if that name is taken."""
    try:
        if hard_link(hidden, final):
            remove(hidden)
        else:
            _rename_without_links(hidden, final)
    except FileExistsError:
        return False
    return True


def hard_link(existing: Path, final: Path) -> bool:
    """Make `final` a hard link to `existing`; return False if the file system has none.

    FileExistsError if `final` is taken.
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


def _rename_without_links(hidden: Path, final: Path) -> None:
    """Reserve the name by an empty file, then rename over it. FileExistsError if the name is taken."""
    try:
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        hidden.replace(final)
    except FileExistsError:
        raise
    except OSError as error:
        raise explain(error, final) from error


@contextmanager
def hide(path: Path) -> Iterator[Path]:
    """Rename `path` to a hidden name with the same ending, and lock it meanwhile."""
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
    """Remove the file `path`, if it exists."""
    with explained(path):
        path.unlink(missing_ok=True)


def write_record(path: Path, data: bytes) -> None:
    """Write `path`, in a folder of RefNet's in its REFNET_HOME or in a store; make both folders.

    Links in the store are not followed: where root restores, the store may belong to another user. RefnetError.
    """
    folder = path.parent
    make_folder(folder.parent)
    with explained(path), ExitStack() as stack:
        above = trust.open_folder(folder.parent)
        stack.callback(os.close, above)
        with suppress(FileExistsError):
            os.mkdir(folder.name, 0o700, dir_fd=above)
        try:
            handle = stack.enter_context(opened(folder.name, OPEN_FOLDER, above))
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            raise RefnetError(
                f"{folder} is a link or a file", "Remove it: RefNet makes that folder itself."
            ) from None
        replace_in(handle, path.name, data)


def write_new(folder: Path, stem: str, ending: str, data: bytes) -> Path:
    """Write `data` to `stem` + `ending` in `folder`, or to the next free `stem_2` …; return its path."""
    with HiddenFile(folder, ".part") as file:
        file.write(data)
        file.sync()
        for number in range(1, 1000):
            name = f"{stem}{f'_{number}' if number > 1 else ''}{ending}"
            if file.rename(name):
                sync_folder(folder)
                return folder / name
    raise RefnetError(f"{folder}: all names {stem}*{ending} are in use", "Retry in a second.")
