"""Open the files of a foreign dump once, by handle, and read pg_dump's table of contents before any program does.

The owner of the folder can replace a file at any moment. So each file is opened without following a link and checked
by its handle; programs get the handles, or copies that were read through them. The layout of the table of contents
(custom, tar and directory format) is defined by PostgreSQL's pg_backup_archiver.c (ReadHead, ReadToc).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, NotRegularError, open_file, opened
from refnet.postgres.account import Account
from refnet.postgres.tempdirs import private_folder

_HANDLES = Path("/proc/self/fd")
_PIECE = 1 << 20
_CONTENTS = "toc.dat"
#: Limit of files in a folder; each table and each large object has one.
_MOST_FILES = 1_000_000


@dataclass(frozen=True)
class DumpPath:
    """The path of a dump for a program."""

    path: Path
    #: Open handles that the program must inherit.
    handles: tuple[int, ...] = ()


def folder_contents(folder: Path) -> DumpContents:
    """Return the table of contents of a dump in directory format; RefnetError if one of its files is unsafe."""
    with _explained(folder), opened(folder, _LINKED_FOLDER) as handle:
        return _checked(folder, handle)


@contextmanager
def folder_path(folder: Path, account: Account | None) -> Iterator[DumpPath]:
    """Check the folder again, for a program that runs as `account` (None: as this process).

    Yield the folder itself if nobody else can change it, else a private copy.
    """
    with _explained(folder), opened(folder, _LINKED_FOLDER) as handle:
        if account is None and _HANDLES.is_dir() and _ours_alone(handle):
            _checked(folder, handle)
            yield DumpPath(_HANDLES / str(handle), (handle,))
            return
        with _private(account) as copy:
            for name in _names(folder, handle):
                with _file(name, handle) as file:
                    _copy(file, copy / name, account)
            with opened(copy, OPEN_FOLDER) as copied:
                _checked(copy, copied)
            yield DumpPath(copy)


@contextmanager
def file_path(file: BinaryIO, account: Account | None) -> Iterator[DumpPath]:
    """Yield the path of the open `file` for a program that runs as `account` (None: as this process)."""
    if account is None and _HANDLES.is_dir() and (handle := _handle(file)) is not None:
        yield DumpPath(_HANDLES / str(handle), (handle,))
        return
    with _private(account) as folder:
        file.seek(0)
        _copy(file, folder / "dump", account)
        yield DumpPath(folder / "dump")


class UnsupportedDumpError(RefnetError):
    """A dump of a kind that RefNet does not load, even if complete."""


def file_contents(name: str, file: BinaryIO, *, tar: bool) -> DumpContents:
    """Return the table of contents of a dump in custom or tar format; RefnetError if it cannot be read."""
    try:
        if tar:
            _in_tar(file)
        return _read_contents(file, custom=not tar)
    except ValueError as error:
        kind = UnsupportedDumpError if isinstance(error, _UnsupportedVersionError) else RefnetError
        raise kind(
            f"reading {name}: {error}",
            "Get another copy of the dump. A newer pg_dump's archive needs a newer RefNet.",
        ) from error


#: A folder that a user names may be a link; its files may not.
_LINKED_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors about the folder or its files into RefnetErrors."""
    try:
        yield
    except NotRegularError as error:
        raise _unsafe(folder, f"{error.filename} is a link or not a regular file") from error
    except ValueError as error:
        raise _unsafe(folder, str(error)) from error


def _unsafe(folder: Path, why: str) -> RefnetError:
    return RefnetError(
        f"{folder.name} cannot be restored: {why}",
        "pg_restore could read files outside of the folder. Get another copy of the dump.",
        Exit.DAMAGED,
    )


def _checked(folder: Path, handle: int) -> DumpContents:
    """Check every name, file and file name within the open folder; return its table of contents."""
    for name in _names(folder, handle):
        with _file(name, handle) as file:
            if _lists_large_objects(name):
                _check_large_objects(name, file)
    with _file(_CONTENTS, handle) as file:
        contents = _read_contents(file, custom=False)
    _check_file_names(contents)
    return contents


def _file(name: str, folder: int) -> IO[bytes]:
    """Open the regular file `name` of the open folder; ValueError if it is a hard link to another user's file."""
    file = os.fdopen(open_file(name, at=folder), "rb")
    found = os.fstat(file.fileno())
    if found.st_nlink > 1 and found.st_uid != os.fstat(folder).st_uid:
        file.close()
        raise ValueError(f"{name} is a hard link to another user's file")
    return file


def _names(folder: Path, handle: int) -> list[str]:
    names = os.listdir(handle)
    if _CONTENTS not in names:
        raise RefnetError(
            f"{folder.name} is a folder without a dump",
            "Give an artifact of RefNet, SQL (plain or gzipped), or pg_dump's custom, directory or tar format.",
        )
    if len(names) > _MOST_FILES:
        raise ValueError(f"it contains more than {_MOST_FILES:,} files")
    if strange := [name for name in names if not _is_file_name(name)]:
        raise ValueError(f"the file name {ascii(strange[0])[:80]} is not one of pg_dump's")
    return names


def _ours_alone(handle: int) -> bool:
    """Whether only root and this user can change the open folder."""
    found = os.fstat(handle)
    return found.st_uid in {0, os.geteuid()} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _handle(file: BinaryIO) -> int | None:
    with suppress(OSError):
        return file.fileno()
    return None


@contextmanager
def _private(account: Account | None) -> Iterator[Path]:
    """Yield a folder that only this process and `account` can enter."""
    with private_folder() as base:
        folder = base / "dump"
        folder.mkdir(mode=0o700)
        if account and account.other:
            base.chmod(0o711)
            os.chown(folder, account.uid, account.gid)
        yield folder


def _copy(file: IO[bytes], to: Path, account: Account | None) -> None:
    with os.fdopen(open_file(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as out:
        shutil.copyfileobj(file, out, _PIECE)
        if account and account.other:
            os.fchown(out.fileno(), account.uid, account.gid)


#: Versions of the layout: pg_dump 8.0 writes the oldest, 17 and 18 write the newest.
_OLDEST, _NEWEST = (1, 10), (1, 16)
_CUSTOM, _TAR = 1, 3  # the toc.dat of a folder has the format of a tar
_MOST_ENTRIES = 10_000_000
_LONGEST = 4096  # bytes of a text that is returned


@dataclass(frozen=True)
class DumpEntry:
    """One entry."""

    #: The dump id.
    number: int
    #: `TABLE DATA` …
    kind: str
    #: The file with its data, if it has one.
    file: str | None
    #: The role that owns it; "": none.
    owner: str = ""


@dataclass(frozen=True)
class DumpContents:
    """The table of contents of an archive."""

    #: Versions of the server and of pg_dump.
    server: str
    program: str
    entries: tuple[DumpEntry, ...]


class _UnsupportedVersionError(ValueError):
    """An archive of a version that RefNet does not read."""


def _read_contents(file: IO[bytes], *, custom: bool) -> DumpContents:
    """Parse the table of contents at the current position, in custom or tar format; ValueError if invalid."""
    return _Reader(file, _CUSTOM if custom else _TAR).contents()


class _Reader:
    """A cursor over an archive's numbers and texts."""

    def __init__(self, file: IO[bytes], archive: int) -> None:
        self._file = file
        if self._bytes(5) != b"PGDMP":
            raise ValueError("it is not an archive of pg_dump")
        self._version = (self._byte(), self._byte())
        self._byte()
        if not _OLDEST <= self._version <= _NEWEST:
            raise _UnsupportedVersionError(
                f"unsupported version ({self._version[0]}.{self._version[1]}) in file header"
            )
        self._width, self._offset = self._byte(), self._byte()
        if not 1 <= self._width <= 8 or not 1 <= self._offset <= 8:
            raise ValueError("its numbers have an invalid size")
        self._format = self._byte()
        if self._format != archive:
            raise ValueError("its header names another format")

    def contents(self) -> DumpContents:
        if self._version >= (1, 15):
            self._byte()  # compression
        else:
            self._number()
        for _ in range(7):
            self._number()  # time of the dump
        self._skip_text()  # database
        server, program = self._text() or "", self._text() or ""
        count = self._number()
        if not 0 <= count <= _MOST_ENTRIES:
            raise ValueError("its number of entries is invalid")
        return DumpContents(server, program, tuple(self._entries(count)))

    def _entries(self, count: int) -> Iterator[DumpEntry]:
        for _ in range(count):
            number = self._number()
            self._number()  # 1 if it has data
            self._skip_text()  # the object's catalog
            self._skip_text()  # its oid
            self._skip_text()  # its name
            kind = self._text() or ""
            if self._version >= (1, 11):
                self._number()  # section
            # create, drop, copy, schema, tablespace; since 1.14 the access method
            for _text in range(6 if self._version >= (1, 14) else 5):
                self._skip_text()
            if self._version >= (1, 16):
                self._number()  # kind of relation
            owner = self._text() or ""
            self._skip_text()  # WITH OIDS
            while self._skip_text():
                pass  # dependencies
            yield DumpEntry(number, kind, self._file_name(), owner)

    def _file_name(self) -> str | None:
        if self._format == _TAR:
            return self._text() or None
        self._bytes(1 + self._offset)  # offset of the data
        return None

    def _number(self) -> int:
        negative = self._byte()
        value = int.from_bytes(self._bytes(self._width), "little")
        return -value if negative else value

    def _text(self) -> str | None:
        length = self._number()
        if length < 0:
            return None
        if length > _LONGEST:
            raise ValueError("a text is too long")
        return self._bytes(length).decode("utf-8", "surrogateescape")

    def _skip_text(self) -> bool:
        """Skip a text; return False if it was NULL."""
        left = length = self._number()
        while left > 0:
            left -= len(self._bytes(min(left, 1 << 20)))
        return length >= 0

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("it ends within its table of contents")
        return data


_BLOCK = 512


def _in_tar(file: IO[bytes]) -> None:
    """Seek to the table of contents, the first member of a tar of pg_dump."""
    header = file.read(_BLOCK)
    if header[:8] != b"toc.dat\0":
        raise ValueError("it does not begin with a table of contents")


#: pg_dump's names of files in a folder: `toc.dat`, `3401.dat.gz`, `blobs_16.toc`.
_FILE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_LIST_OF_LARGE_OBJECTS = re.compile(r"blobs(_[0-9]+)?\.toc")
_LARGE_OBJECT = re.compile(rb"[0-9]{1,10} blob_[0-9]{1,10}\.dat\n")


def _is_file_name(name: str) -> bool:
    """Whether `name` is a file name that pg_dump uses in a folder; never a path."""
    return _FILE.fullmatch(name) is not None


def _check_file_names(contents: DumpContents) -> None:
    """Raise ValueError if the data of an entry are in a file outside of the folder."""
    for entry in contents.entries:
        if entry.file is None:
            continue
        large = entry.kind in {"BLOBS", "BLOB"}
        if not (_LIST_OF_LARGE_OBJECTS.fullmatch(entry.file) if large else _is_file_name(entry.file)):
            raise ValueError("the data of an entry are outside of this folder")


def _lists_large_objects(name: str) -> bool:
    """Whether pg_restore may read the file `name` as a list of large objects, which names other files."""
    return ".toc" in name or name.startswith("blobs")


def _check_large_objects(name: str, file: IO[bytes]) -> None:
    """Raise ValueError if the list of large objects `name` names anything but files of its folder."""
    if not _LIST_OF_LARGE_OBJECTS.fullmatch(name):
        raise ValueError("a list of large objects has a name that pg_dump does not give")
    while line := file.readline(200):
        if not _LARGE_OBJECT.fullmatch(line):
            raise ValueError("a list of large objects names files outside of this folder")
