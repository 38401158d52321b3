"""A list of files as pages show it: one folder of it, with sizes; what a search finds; one entry.

`listing.py` checks every line, which takes a third of a second for 50,000 files. Here one pass finds the names and sizes,
which stay in memory (about 100 bytes for each file), and only what is shown is checked. The list is read in pieces: no
step is so long that the pages of others wait for it.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from refnet.catalog.artifact import MOST_FILES, OpenArtifact
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import composed
from refnet.core.member_names import ArchiveError, checked, show
from refnet.sources.folder.files_artifact import archive_errors, literal_of
from refnet.sources.folder.listing import FileKind, Listed, matching, unquoted

#: The longest list that is shown, in bytes: of about 600,000 files.
LONGEST = 128 << 20
#: A name without escapes, or one with its key: the end says whether it is in base64. Possessive: see `listing.py`. Then the
#: size of a file, or whether it is a folder, else a link.
_LINE = re.compile(
    rb'\{"path(?:":"([^"\\\n]++)|((?:_base64)?":"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*+))"'
    rb',"kind":"(?:file","size":(\d{1,19})|(folder)"|link"),'
)
_FOLDER, _LINK = -1, -2
_KINDS = {0: FileKind.FILE, _FOLDER: FileKind.FOLDER, _LINK: FileKind.LINK}
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

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """Read the list that `pieces` are; ArchiveError if it is too long, or has not one name and one kind in each line."""
        self._paths: list[bytes] = []
        #: Of a file its bytes, else _FOLDER or _LINK.
        self._sizes = array("q")
        lines, end, left = 0, b"", list[bytes]()
        try:
            for piece in pieces:
                text, newline, more = piece.rpartition(b"\n")
                left.append(text + newline)
                if newline:
                    text, left = b"".join(left), [more]
                    lines, end = lines + text.count(b"\n"), (end + text)[-len(_EMPTY) :]
                    self._add(text)
                else:
                    left.append(more)
                if lines > MOST_FILES + _HEAD + 1:
                    raise ArchiveError(f"the list of files has more than {MOST_FILES:,} entries")
        except (ValueError, OverflowError) as error:
            raise ArchiveError(f"the list of files is not valid: {error}") from error
        whole = not any(left) and end.endswith(_END if self._paths else _EMPTY)
        if not whole or len(self._paths) != lines - _HEAD - (1 if self._paths else 2):
            raise ArchiveError("the list of files is not valid")
        self.folder = lru_cache(maxsize=8)(self._folder)

    def _add(self, text: bytes) -> None:
        found = _LINE.findall(text)
        self._paths += [plain or _name(other) for plain, other, _, _ in found]
        self._sizes.extend(
            int(size) if size else _FOLDER if folder else _LINK for _, _, size, folder in found
        )

    def __len__(self) -> int:
        return len(self._paths)

    def _folder(self, path: str) -> tuple[tuple[bytes, int, int, int], ...]:
        """Path, kind, files and bytes of each entry of the folder `path` ("": the top); folders first, by name."""
        start = os.fsencode(path) + b"/" if path else b""
        cut, kinds = len(start), dict[bytes, int]()
        files, sizes = defaultdict[bytes, int](int), defaultdict[bytes, int](int)
        name, below = b"", b"\n"  # no name begins with it
        for one, size in zip(self._paths, self._sizes, strict=True):
            if not one.startswith(below):
                if not one.startswith(start) or one == b".":
                    continue
                name, inner, _ = one[cut:].partition(b"/")
                below = start + name + b"/"  # of most lists, what is in it follows
                if not inner:
                    if name in kinds:
                        raise ArchiveError(f"{show(os.fsdecode(one))} is listed twice in the list of files")
                    kinds[name] = min(size, 0)
            if size >= 0:
                files[name] += 1
                sizes[name] += size
        if (
            path
            and not kinds
            and (os.fsencode(path), _FOLDER) not in zip(self._paths, self._sizes, strict=True)
        ):
            raise LookupError(path)
        found = ((start + name, kind, files[name], sizes[name]) for name, kind in kinds.items())
        return tuple(sorted(found, key=lambda one: (one[1] != _FOLDER, one[0].lower(), one[0])))

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
        sizes = [size for one in found if (size := self._sizes[one]) >= 0]
        shown = (self._entry(one) for one in found[first : first + most])
        return FolderPage(tuple(shown), len(found), len(sizes), sum(sizes))

    def only(self, names: Collection[str]) -> dict[str, str]:
        """Return name → path of those of `names` that one file alone has, in any case; ArchiveError as for `page`."""
        wanted, found = {*map(_folded, names)}, dict[str, list[int]]()
        for at, path in enumerate(self._paths):
            name = path[path.rfind(b"/") + 1 :]
            folded = name.lower().decode() if name.isascii() else _folded(os.fsdecode(name))
            if folded in wanted and self._sizes[at] >= 0:
                found.setdefault(folded, []).append(at)
        one = {name: places[0] for name, places in found.items() if len(places) == 1}
        return {name: self._entry(one[key]).path for name in names if (key := _folded(name)) in one}

    def _found(self, text: str) -> list[int]:
        if text.isascii():
            wanted = text.lower().encode()
            return [at for at, one in enumerate(self._paths) if wanted in one.lower()]
        folded = _folded(text)
        return [
            at
            for at, one in enumerate(self._paths)
            if not one.isascii() and folded in _folded(os.fsdecode(one))
        ]

    def _entry(self, at: int) -> Shown:
        size = self._sizes[at]
        return _shown(self._paths[at], min(size, 0), int(size >= 0), max(size, 0))


def _folded(text: str) -> str:
    return composed(text).casefold()


def _name(found: bytes) -> bytes:
    key, _, text = found.partition(b'":"')
    return unquoted(text, key)


def _shown(raw: bytes, kind: int, files: int, size: int) -> Shown:
    path = checked(raw)
    if raw != os.fsencode(path):
        raise ArchiveError(f"the path {show(os.fsdecode(raw))} in the list of files is not normalized")
    return Shown(path, _KINDS[kind], files, size)


def names_of(artifact: OpenArtifact) -> FileNames:
    """Read the names in the list of files of `artifact`; RefnetError if it has none, or it is damaged or too long."""
    with archive_errors(artifact.name):
        return FileNames(_pieces(artifact))


def entry_of(artifact: OpenArtifact, path: str) -> Listed | None:
    """Return the entry of `path`, checked; None if there is none. RefnetError as for `names_of`."""
    with archive_errors(artifact.name):
        text = b"".join(_pieces(artifact))
        found: Iterable[Listed] = matching(text, path.__eq__, literal_of(path))
        return next(iter(found), None)


def _pieces(artifact: OpenArtifact) -> Iterator[bytes]:
    size = 0
    for piece in artifact.file_pieces():
        yield piece
        size += len(piece)
        if size > LONGEST:
            raise RefnetError(
                f"the list of files of {artifact.name} has more than {LONGEST >> 20} MiB, which no page shows",
                f"Search it in a terminal: refnet show {artifact.name} --files 'GLOB'",
                Exit.USAGE,
            )
    if not size:
        raise RefnetError(
            f"{artifact.name} has no list of files",
            f"`refnet show {artifact.name} --files` reads them from the archive.",
            Exit.USAGE,
        )
