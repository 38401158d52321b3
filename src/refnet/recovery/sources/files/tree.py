"""List a live folder's entries: to verify what was unpacked, and to plan against what is live."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256

from refnet.files import OPEN_FILE
from refnet.recovery.sources.files.listing import FileList, Kind, Listed
from refnet.recovery.sources.files.member_names import show
from refnet.recovery.sources.files.walk import Found, walk

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Tree:
    """The entries of a live folder."""

    #: What could be read.
    files: FileList
    #: What no archive can hold (FIFOs, sockets, devices), and what could not be read.
    other: tuple[str, ...]


def read_tree(root: int, only: Collection[str] | None = None) -> Tree:
    """Read every entry of the open folder `root`, with file digests; only its entries `only` if that is given."""
    listed: list[Listed] = [] if only is not None else [Listed.of(".", Kind.FOLDER, os.fstat(root))]
    other: list[str] = []
    for found in walk(root, only):
        try:
            if found.error:
                raise found.error
            if found.kind is None:
                other.append(found.path)
            else:
                listed.append(_read(found, found.kind))
        except FileNotFoundError:
            continue
        except OSError:
            other.append(found.path)
    return Tree(FileList(tuple(listed)), tuple(other))


def _read(found: Found, kind: Kind) -> Listed:
    if kind is not Kind.FILE:
        status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        target = os.readlink(found.name, dir_fd=found.folder) if kind is Kind.LINK else ""
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


def differences(expected: FileList, tree: Tree) -> Iterator[str]:
    """Yield a sentence for each entry of `tree` that is not as in `expected`: SHA-256, mode and kind of everything."""
    for listed in expected.files:
        found = tree.files.by_path.get(listed.path)
        if found is None:
            yield f"{show(listed.path)} is missing"
        elif found.kind is not listed.kind:
            yield f"{show(listed.path)} is a {found.kind}, not a {listed.kind}"
        elif (found.sha256, found.target) != (listed.sha256, listed.target):
            yield f"{show(listed.path)} has changed content"
        elif found.mode != listed.mode and listed.kind is not Kind.LINK:
            yield f"{show(listed.path)} has the mode {found.mode:04o}, not {listed.mode:04o}"
    extra = [path for path in tree.files.by_path if path not in expected.by_path and path != "."]
    yield from (f"{show(path)} is not in the list" for path in (*extra, *tree.other))
