"""List a live folder's entries: to verify what was unpacked, and to plan against what is live."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

from refnet.files import OPEN_FILE, descended
from refnet.recovery.sources.files.listing import FileKind, FileList, Listed
from refnet.recovery.sources.files.member_names import show
from refnet.recovery.sources.files.scope import EVERYTHING, LeftOut, Scope
from refnet.recovery.sources.files.walk import Found, walk

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Tree:
    """The entries of a live folder."""

    #: What could be read.
    files: FileList
    #: What no archive can hold (FIFOs, sockets, devices), and what could not be read.
    other: tuple[str, ...]
    #: The paths of what the rules of the scope leave out: a folder, or a file.
    excluded: tuple[str, ...] = ()
    #: The paths of folders where another file system is mounted, which was not read.
    mounts: tuple[str, ...] = ()

    def __add__(self, more: Self) -> Self:
        return replace(
            self,
            files=FileList((*self.files.files, *more.files.files)),
            other=(*self.other, *more.other),
            excluded=(*self.excluded, *more.excluded),
            mounts=(*self.mounts, *more.mounts),
        )

    def below(self, prefix: str) -> Self:
        """Return it with `prefix` before each path."""
        if not prefix:
            return self
        files = tuple(one._replace(path=prefix + one.path) for one in self.files.files)
        others = ((prefix + path for path in paths) for paths in (self.other, self.excluded, self.mounts))
        other, excluded, mounts = map(tuple, others)
        return replace(self, files=FileList(files), other=other, excluded=excluded, mounts=mounts)


def read_tree(root: int, scope: Scope = EVERYTHING) -> Tree:
    """Read the entries of `scope` in the open folder `root`, with file digests."""
    listed: list[Listed] = []
    other: list[str] = []
    left_out = LeftOut(paths=[])
    for path, found in _entries(root, scope, left_out):
        if found:
            listed.append(found)
        else:
            other.append(path)
    return Tree(FileList(tuple(listed)), tuple(other), tuple(left_out.paths or ()), tuple(left_out.mounts))


def _entries(root: int, scope: Scope, left_out: LeftOut | None = None) -> Iterator[tuple[str, Listed | None]]:
    """Yield every path with its entry, or None for what no archive can hold, and what could not be read."""
    if scope.only is None:
        yield ".", Listed.of(".", FileKind.FOLDER, os.fstat(root))
    for found in walk(root, scope, left_out):
        try:
            if found.error:
                raise found.error
            yield found.path, _read(found, found.kind) if found.kind else None
        except FileNotFoundError:
            continue
        except OSError:
            yield found.path, None


def read_entries(
    root: int, entries: Iterable[tuple[tuple[str, ...], str]], scope: Scope = EVERYTHING
) -> Tree:
    """Read the entries (folder, name) of the open folder `root`, as `read_tree` does; missing ones are left out."""
    names: dict[tuple[str, ...], set[str]] = {}
    for folder, name in entries:
        names.setdefault(folder, set()).add(name)
    found = Tree(FileList(()), ())
    for folder, only in names.items():
        before = "".join(f"{name}/" for name in folder)
        with suppress(FileNotFoundError), descended(root, folder) as handle:
            found += read_tree(handle, scope.of(only, before)).below(before)
    return found


def _read(found: Found, kind: FileKind) -> Listed:
    if kind is not FileKind.FILE:
        status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        target = os.readlink(found.name, dir_fd=found.folder) if kind is FileKind.LINK else ""
        return Listed.of(found.path, kind, status)._replace(target=target)
    descriptor = os.open(found.name, OPEN_FILE, dir_fd=found.folder)
    try:
        status, digest, size = os.fstat(descriptor), sha256(), 0
        while data := os.read(descriptor, min(status.st_size + 1, _BLOCK)):
            digest.update(data)
            size += len(data)
    finally:
        os.close(descriptor)
    return Listed.of(found.path, kind, status)._replace(size=size, sha256=digest.hexdigest())


def differences(expected: FileList, root: int) -> Iterator[str]:
    """Yield a sentence for each entry of the open folder `root` that is not as in `expected`.

    SHA-256, mode and kind of everything are compared; of what was read, one entry at a time is in memory.
    """
    left = dict(expected.by_path)
    for path, found in _entries(root, EVERYTHING):
        listed = left.pop(path, None)
        if found and listed:
            if difference := _difference(listed, found):
                yield f"{show(path)} {difference}"
        elif path != ".":
            yield f"{show(path)} is not in the list"
    yield from (f"{show(path)} is missing" for path in left)


def _difference(listed: Listed, found: Listed) -> str:
    if found.kind is not listed.kind:
        return f"is a {found.kind}, not a {listed.kind}"
    if (found.sha256, found.target) != (listed.sha256, listed.target):
        return "has changed content"
    if found.mode != listed.mode and listed.kind is not FileKind.LINK:
        return f"has the mode {found.mode:04o}, not {listed.mode:04o}"
    return ""
