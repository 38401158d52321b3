"""What a folder holds now, as a list of files: to compare what was unpacked, and to plan against what is live."""

from __future__ import annotations

import os
import stat
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
    """`files`: what could be read. `other`: what no archive holds (FIFOs, sockets, devices), and what is unreadable."""

    files: FileList
    other: tuple[str, ...]


def read_tree(root: int, only: Collection[str] | None = None) -> Tree:
    """Every entry of the open folder `root`, files digested; of `only` these entries where it is given."""
    listed: list[Listed] = [] if only is not None else [_entry(".", Kind.FOLDER, os.fstat(root))]
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
        return _entry(found.path, kind, status, target=target)
    descriptor = os.open(found.name, OPEN_FILE, dir_fd=found.folder)
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, min(status.st_size + 1, _BLOCK))
        digest, size = sha256(data), len(data)
        while len(data) == _BLOCK:
            data = os.read(descriptor, _BLOCK)
            digest.update(data)
            size += len(data)
        return _entry(found.path, kind, status, size=size, digest=digest.hexdigest())
    finally:
        os.close(descriptor)


def _entry(
    path: str, kind: Kind, status: os.stat_result, *, size: int = 0, digest: str = "", target: str = ""
) -> Listed:
    mode = stat.S_IMODE(status.st_mode)
    return Listed(
        path, kind, size, mode, status.st_mtime_ns, status.st_uid, status.st_gid, -1, digest, target
    )


def differences(wanted: FileList, found: Tree) -> Iterator[str]:
    """A sentence for each way in which `found` is not what `wanted` lists: SHA-256, mode and kind of everything."""
    for listed in wanted.files:
        now = found.files.by_path.get(listed.path)
        if now is None:
            yield f"{show(listed.path)} is missing"
        elif now.kind is not listed.kind:
            yield f"{show(listed.path)} is a {now.kind}, not a {listed.kind}"
        elif (now.sha256, now.target) != (listed.sha256, listed.target):
            yield f"{show(listed.path)} has other content"
        elif now.mode != listed.mode and listed.kind is not Kind.LINK:
            yield f"{show(listed.path)} has the mode {now.mode:04o}, not {listed.mode:04o}"
    more = [path for path in found.files.by_path if path not in wanted.by_path and path != "."]
    yield from (f"{show(path)} is not in the list" for path in (*more, *found.other))
