"""A list of files as pages show it: one folder of it, with sizes; what a search finds; one entry.

`listing.py` checks every line, which takes a third of a second for 50,000 files. Here one pass finds the names and sizes,
which stay in memory (about 100 bytes for each file), and only what is shown is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from isal import isal_zlib

from refnet.catalog.artifact import MOST_FILES, OpenArtifact
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import composed
from refnet.core.member_names import ArchiveError, checked, show
from refnet.sources.folder.files_artifact import archive_errors, literal_of
from refnet.sources.folder.listing import FileKind, Listed, matching, unquoted

#: The longest list that is shown, in bytes: of about 600,000 files.
LONGEST = 128 << 20
#: The end of the key says whether the name is in base64; kind and size follow it. Possessive: see `listing.py`.
_PATH = re.compile(rb'\{"path((?:_base64)?":"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*+)","kind":')
_KIND = re.compile(rb'","kind":"(file","size":\d{1,19}|folder|link)"?,')
_PLAIN, _FILE = b'":"', b'file","size":'
_HEAD, _END, _EMPTY = 3, b"\n]}\n", b'"files": [\n\n]}\n'


@dataclass(frozen=True)
class Shown:
    """A line of a folder, or of what a search found."""

    path: str
    kind: FileKind
    #: The files at and below it, and their bytes.
    files: int
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class FolderPage:
    """Some lines of a folder, or of what a search found."""

    lines: tuple[Shown, ...]
    #: How many lines there are in all.
    total: int
    #: All files in the folder, and their bytes; of a search, of the files that it found.
    files: int
    size: int


class FileNames:
    """The names, kinds and sizes in one list of files."""

    def __init__(self, paths: list[bytes], kinds: list[bytes]) -> None:
        self._paths, self._kinds = paths, kinds
        self.folder = lru_cache(maxsize=8)(self._folder)

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Read the list `text`; ArchiveError if it is too long, or has not one name and one kind in each line."""
        lines = text.count(b"\n") - _HEAD - 1
        if lines > MOST_FILES:
            raise ArchiveError(f"the list of files has more than {MOST_FILES:,} entries")
        paths, kinds = _PATH.findall(text), _KIND.findall(text)
        whole = text.endswith(_EMPTY if not paths else _END)
        if not whole or not len(paths) == len(kinds) == (lines if paths else lines - 1):
            raise ArchiveError("the list of files is not valid")
        try:
            return cls([_name(one) for one in paths], kinds)
        except ValueError as error:
            raise ArchiveError(f"the list of files is not valid: {error}") from error

    def __len__(self) -> int:
        return len(self._paths)

    def _folder(self, path: str) -> tuple[tuple[bytes, bytes, int, int], ...]:
        """Path, kind, files and bytes of each entry of the folder `path` ("": the top); folders first, by name."""
        start = os.fsencode(path) + b"/" if path else b""
        cut, kinds = len(start), dict[bytes, bytes]()
        files, sizes = dict[bytes, int](), dict[bytes, int]()
        for one, kind in zip(self._paths, self._kinds, strict=True):
            if not one.startswith(start) or one == b".":
                continue
            name, below, _ = one[cut:].partition(b"/")
            if not below and name in kinds:
                raise ArchiveError(f"{show(os.fsdecode(one))} is listed twice in the list of files")
            if not below:
                kinds[name] = kind
            if len(kind) > len(_FILE):
                files[name] = files.get(name, 0) + 1
                sizes[name] = sizes.get(name, 0) + int(kind[len(_FILE) :])
        if (
            path
            and not kinds
            and (os.fsencode(path), b"folder") not in zip(self._paths, self._kinds, strict=True)
        ):
            raise LookupError(path)
        found = ((start + name, kind, files.get(name, 0), sizes.get(name, 0)) for name, kind in kinds.items())
        return tuple(sorted(found, key=lambda one: (one[1] != b"folder", one[0].lower(), one[0])))

    def page(self, folder: str, first: int, most: int) -> FolderPage:
        """Return `most` lines of the folder `folder` ("": the top) from `first` on.

        LookupError if there is no such folder. ArchiveError if a line is not of a valid list.
        """
        found = self.folder(folder)
        shown = tuple(_shown(*one) for one in found[first : first + most])
        return FolderPage(shown, len(found), sum(one[2] for one in found), sum(one[3] for one in found))

    def search(self, text: str, first: int, most: int) -> FolderPage:
        """Return `most` entries whose path contains `text`, in any case, from `first` on; ArchiveError as for `page`."""
        found = self._found(text)
        sizes = [int(kind[len(_FILE) :]) for one in found if len(kind := self._kinds[one]) > len(_FILE)]
        shown = (self._entry(one) for one in found[first : first + most])
        return FolderPage(tuple(shown), len(found), len(sizes), sum(sizes))

    def _found(self, text: str) -> list[int]:
        if text.isascii():
            wanted = text.lower().encode()
            return [at for at, one in enumerate(self._paths) if wanted in one.lower()]
        folded = composed(text).casefold()
        return [
            at
            for at, one in enumerate(self._paths)
            if not one.isascii() and folded in composed(os.fsdecode(one)).casefold()
        ]

    def _entry(self, at: int) -> Shown:
        kind = self._kinds[at]
        size = int(kind[len(_FILE) :]) if len(kind) > len(_FILE) else None
        return _shown(self._paths[at], kind, int(size is not None), size or 0)


def _name(found: bytes) -> bytes:
    if found.startswith(_PLAIN) and b"\\" not in found:
        return found[len(_PLAIN) :]
    key, _, text = found.partition(_PLAIN)
    return unquoted(text, key)


def _shown(raw: bytes, kind: bytes, files: int, size: int) -> Shown:
    path = checked(raw)
    if raw != os.fsencode(path):
        raise ArchiveError(f"the path {show(os.fsdecode(raw))} in the list of files is not normalized")
    return Shown(path, FileKind(kind.partition(b'"')[0].decode()), files, size)


def names_of(artifact: OpenArtifact) -> FileNames:
    """Read the names in the list of files of `artifact`; RefnetError if it has none, or it is damaged or too long."""
    with archive_errors(artifact.name):
        return FileNames.of(_text(artifact))


def entry_of(artifact: OpenArtifact, path: str) -> Listed | None:
    """Return the entry of `path`, checked; None if there is none. RefnetError as for `names_of`."""
    with archive_errors(artifact.name):
        found: Iterable[Listed] = matching(_text(artifact), path.__eq__, literal_of(path))
        return next(iter(found), None)


def _text(artifact: OpenArtifact) -> bytes:
    packed = artifact.packed_files()
    if packed is None:
        raise RefnetError(
            f"{artifact.name} has no list of files",
            f"`refnet show {artifact.name} --files` reads them from the archive.",
            Exit.USAGE,
        )
    text: bytes = isal_zlib.decompressobj(31).decompress(packed, LONGEST + 1)
    if len(text) > LONGEST:
        raise RefnetError(
            f"the list of files of {artifact.name} has more than {LONGEST >> 20} MiB, which no page shows",
            f"Search it in a terminal: refnet show {artifact.name} --files 'GLOB'",
            Exit.USAGE,
        )
    return text
