"""Read the table of contents of pg_dump's archives (custom, tar and directory) before any program opens them.

The layout is defined by PostgreSQL's pg_backup_archiver.c (ReadHead, ReadToc).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

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
class Contents:
    """The table of contents of an archive."""

    #: Versions of the server and of pg_dump.
    server: str
    program: str
    entries: tuple[DumpEntry, ...]


class UnsupportedVersionError(ValueError):
    """An archive of a version that RefNet does not read."""


def read(file: IO[bytes], *, custom: bool) -> Contents:
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
            raise UnsupportedVersionError(
                f"unsupported version ({self._version[0]}.{self._version[1]}) in file header"
            )
        self._width, self._offset = self._byte(), self._byte()
        if not 1 <= self._width <= 8 or not 1 <= self._offset <= 8:
            raise ValueError("its numbers have an invalid size")
        self._format = self._byte()
        if self._format != archive:
            raise ValueError("its header names another format")

    def contents(self) -> Contents:
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
        return Contents(server, program, tuple(self._entries(count)))

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


def in_tar(file: IO[bytes]) -> None:
    """Seek to the table of contents, the first member of a tar of pg_dump."""
    header = file.read(_BLOCK)
    if header[:8] != b"toc.dat\0":
        raise ValueError("it does not begin with a table of contents")


#: pg_dump's names of files in a folder: `toc.dat`, `3401.dat.gz`, `blobs_16.toc`.
_FILE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_LIST_OF_LARGE_OBJECTS = re.compile(r"blobs(_[0-9]+)?\.toc")
_LARGE_OBJECT = re.compile(rb"[0-9]{1,10} blob_[0-9]{1,10}\.dat\n")


def is_file_name(name: str) -> bool:
    """Whether `name` is a file name that pg_dump uses in a folder; never a path."""
    return _FILE.fullmatch(name) is not None


def check_file_names(contents: Contents) -> None:
    """Raise ValueError if the data of an entry are in a file outside of the folder."""
    for entry in contents.entries:
        if entry.file is None:
            continue
        large = entry.kind in {"BLOBS", "BLOB"}
        if not (_LIST_OF_LARGE_OBJECTS.fullmatch(entry.file) if large else is_file_name(entry.file)):
            raise ValueError("the data of an entry are outside of this folder")


def lists_large_objects(name: str) -> bool:
    """Whether pg_restore may read the file `name` as a list of large objects, which names other files."""
    return ".toc" in name or name.startswith("blobs")


def check_large_objects(name: str, file: IO[bytes]) -> None:
    """Raise ValueError if the list of large objects `name` names anything but files of its folder."""
    if not _LIST_OF_LARGE_OBJECTS.fullmatch(name):
        raise ValueError("a list of large objects has a name that pg_dump does not give")
    while line := file.readline(200):
        if not _LARGE_OBJECT.fullmatch(line):
            raise ValueError("a list of large objects names files outside of this folder")
