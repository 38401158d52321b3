"""The table of contents of pg_dump's archives (custom, tar and directory), read before any program opens them.

The layout is that of PostgreSQL's pg_backup_archiver.c (ReadHead, ReadToc). Texts that are not needed are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

#: Versions of the layout: of pg_dump 8.0, and of 17 and 18.
_OLDEST, _NEWEST = (1, 10), (1, 16)
_CUSTOM, _TAR = 1, 3  # a folder's toc.dat says that it is of a tar
_MOST_ENTRIES = 10_000_000
_LONGEST = 4096  # bytes of a text that is kept


@dataclass(frozen=True)
class Entry:
    """One entry: its number in the dump, its kind (TABLE DATA …) and the file that holds its data, if one does."""

    number: int
    kind: str
    file: str | None


@dataclass(frozen=True)
class Contents:
    """What an archive says of itself. `server` and `program`: the versions of the server and of pg_dump."""

    server: str
    program: str
    entries: tuple[Entry, ...]


class UnsupportedVersionError(ValueError):
    """An archive of a version that RefNet does not read."""


def read(file: IO[bytes], *, custom: bool) -> Contents:
    """The contents of the archive that begins here, in custom format or another's; ValueError says what is wrong."""
    return _Reader(file, _CUSTOM if custom else _TAR).contents()


class _Reader:
    """A cursor over an archive's numbers and texts."""

    def __init__(self, file: IO[bytes], archive: int) -> None:
        self._file = file
        if self._bytes(5) != b"PGDMP":
            raise ValueError("it does not begin as an archive of pg_dump does")
        self._version = (self._byte(), self._byte())
        self._byte()
        if not _OLDEST <= self._version <= _NEWEST:
            raise UnsupportedVersionError(
                f"unsupported version ({self._version[0]}.{self._version[1]}) in file header"
            )
        self._width, self._offset = self._byte(), self._byte()
        if not 1 <= self._width <= 8 or not 1 <= self._offset <= 8:
            raise ValueError("its numbers have an odd size")
        self._format = self._byte()
        if self._format != archive:
            raise ValueError("it is of another format than it seems")

    def contents(self) -> Contents:
        if self._version >= (1, 15):
            self._byte()  # how it is compressed
        else:
            self._number()
        for _ in range(7):
            self._number()  # when it was made
        self._pass_text()  # the database
        server, program = self._text() or "", self._text() or ""
        count = self._number()
        if not 0 <= count <= _MOST_ENTRIES:
            raise ValueError("it has an impossible number of entries")
        return Contents(server, program, tuple(self._entries(count)))

    def _entries(self, count: int) -> Iterator[Entry]:
        for _ in range(count):
            number = self._number()
            self._number()  # whether it has data
            self._pass_text()  # the object's catalog
            self._pass_text()  # and oid
            self._pass_text()  # its name
            kind = self._text() or ""
            if self._version >= (1, 11):
                self._number()  # the section
            for _text in range(self._texts_behind()):
                self._pass_text()
            if self._version >= (1, 16):
                self._number()  # the kind of relation
            self._pass_text()  # the owner
            self._pass_text()  # WITH OIDS
            while self._pass_text():
                pass  # what it depends on
            yield Entry(number, kind, self._place())

    def _texts_behind(self) -> int:
        """How many texts follow: create, drop, copy, schema, tablespace; since 1.14 the access method."""
        return 6 if self._version >= (1, 14) else 5

    def _place(self) -> str | None:
        if self._format == _TAR:
            return self._text() or None
        self._bytes(1 + self._offset)  # where the data begin
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

    def _pass_text(self) -> bool:
        """Whether there was a text."""
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
    """Go to where the table of contents begins in a tar of pg_dump, which is its first member."""
    header = file.read(_BLOCK)
    if header[:8] != b"toc.dat\0":
        raise ValueError("it does not begin with a table of contents")


#: The names that pg_dump gives to files of a folder, but for their contents' own: `3401.dat.gz`, `blobs_16.toc`.
_FILE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_LIST_OF_LARGE_OBJECTS = re.compile(r"blobs(_[0-9]+)?\.toc")
_LARGE_OBJECT = re.compile(rb"[0-9]{1,10} blob_[0-9]{1,10}\.dat\n")


def is_file_name(name: str) -> bool:
    """Whether pg_dump gives such a name to a file of a folder: one that leads nowhere else."""
    return _FILE.fullmatch(name) is not None


def check_places(contents: Contents) -> None:
    """ValueError where an entry of a folder's contents has its data anywhere but in a file of that folder."""
    for entry in contents.entries:
        if entry.file is None:
            continue
        large = entry.kind in {"BLOBS", "BLOB"}
        if not (_LIST_OF_LARGE_OBJECTS.fullmatch(entry.file) if large else is_file_name(entry.file)):
            raise ValueError("an entry has its data in no file of this folder")


def lists_large_objects(name: str) -> bool:
    """Whether pg_restore may take the file `name` for a list of large objects, which names files itself."""
    return ".toc" in name or name.startswith("blobs")


def check_large_objects(name: str, file: IO[bytes]) -> None:
    """ValueError where the list of large objects `name` leads to anything but files of its folder."""
    if not _LIST_OF_LARGE_OBJECTS.fullmatch(name):
        raise ValueError("a list of large objects has a name that pg_dump does not give")
    while line := file.readline(200):
        if not _LARGE_OBJECT.fullmatch(line):
            raise ValueError("a list of large objects leads out of this folder")
