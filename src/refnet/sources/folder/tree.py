"""Lists a folder's entries, and compares: a folder with a list of files, two lists, or a fingerprint with an earlier one."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import starmap
from operator import attrgetter, itemgetter
from typing import Any, Self

from xxhash import xxh3_128

from refnet.core import attributes
from refnet.core.files import OPEN_FILE, OPEN_FOLDER, descended, opened
from refnet.core.member_names import parent, show, spelled
from refnet.sources.folder.listing import FILE_MODE, FileKind, FileList, Listed
from refnet.sources.folder.scope import EVERYTHING, Aspect, ExcludedEntries, Scope, Unheld
from refnet.sources.folder.walk import COARSE_TICK_NS, EntryRun, WalkedEntry, is_young, runs, walk

#: How many paths of each kind of change are shown.
SHOWN = 10
_BLOCK = 1 << 20
#: Entries that were read within this time count as read at its beginning.
_TOGETHER_NS = 5_000_000
#: Inode, size, mode, owner, owning group, mtime and ctime.
Record = tuple[int, int, int, int, int, int, int]
recorded: Callable[[os.stat_result], Record] = attrgetter(
    "st_ino", "st_size", "st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns"
)
_PACKED = struct.Struct("<QqIIIqq").pack
_CTIME = itemgetter(6)


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
        """The tree with `prefix` before each path."""
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
    left_out = ExcludedEntries(paths=[])
    for path, found in _entries(root, scope, left_out):
        if found:
            listed.append(found)
        else:
            other.append(path)
    return Tree(FileList(tuple(listed)), tuple(other), tuple(left_out.paths or ()), tuple(left_out.mounts))


def _entries(
    root: int, scope: Scope, left_out: ExcludedEntries | None = None
) -> Iterator[tuple[str, Listed | None]]:
    """Yield each path with its entry; None for unsupported kinds and unreadable entries."""
    visible = attributes.visible(root)
    if scope.only is None:
        yield ".", _without(_folder(".", root), visible)
    for found in walk(root, scope, left_out):
        try:
            if found.error:
                raise found.error
            yield found.path, _without(_read(found, found.kind), visible) if found.kind else None
        except FileNotFoundError:
            continue
        except OSError:
            yield found.path, None


def _without(listed: Listed, visible: tuple[bool, bool]) -> Listed:
    """`listed` without digests of attributes that its file system lacks; see `attributes.visible`."""
    if all(visible):
        return listed
    acls, xattrs = visible
    return listed._replace(acl=listed.acl if acls else None, xattrs=listed.xattrs if xattrs else None)


def read_entries(
    root: int, entries: Iterable[tuple[tuple[str, ...], str]], scope: Scope = EVERYTHING
) -> Tree:
    """Read the entries (folder, name) of the open folder `root` like `read_tree`, without missing ones."""
    names: dict[tuple[str, ...], set[str]] = {}
    for folder, name in entries:
        names.setdefault(folder, set()).add(name)
    found = Tree(FileList(()), ())
    for folder, only in names.items():
        before = "".join(f"{name}/" for name in folder)
        with suppress(FileNotFoundError), descended(root, folder) as handle:
            found += read_tree(handle, scope.of(only, before)).below(before)
    return found


def _read(found: WalkedEntry, kind: FileKind) -> Listed:
    if kind is FileKind.LINK:
        status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
        target = os.readlink(found.name, dir_fd=found.folder)
        return Listed.of(found.path, kind, status)._replace(target=target)
    if kind is FileKind.FOLDER:
        with opened(found.name, OPEN_FOLDER, found.folder) as folder:
            return _folder(found.path, folder)
    descriptor = os.open(found.name, OPEN_FILE, dir_fd=found.folder)
    try:
        status, digest, size = os.fstat(descriptor), sha256(), 0
        kept, _ = attributes.read(descriptor)
        wanted = min(status.st_size + 1, _BLOCK)
        while data := os.read(descriptor, wanted):
            digest.update(data)
            size += len(data)
            if size == status.st_size and len(data) < wanted:
                break  # its end
    finally:
        os.close(descriptor)
    mode, mtime_ns = status.st_mode & FILE_MODE, status.st_mtime_ns
    listed = Listed(
        found.path, kind, size, mode, mtime_ns, status.st_uid, status.st_gid, -1, digest.hexdigest()
    )
    return listed if kept is attributes.NONE else listed.having(kept)._replace(kept=attributes.NONE)


def _folder(path: str, folder: int) -> Listed:
    kept, _ = attributes.read(folder)
    return Listed.of(path, FileKind.FOLDER, os.fstat(folder)).having(kept)._replace(kept=attributes.NONE)


def differences(
    expected: FileList, root: int, unheld: Unheld | None = None, *, owners: bool = False
) -> Iterator[str]:
    """Sentences about entries of the open folder `root` that differ from `expected`.

    Everything except `unheld` metadata is compared, owners only with `owners`. One entry at a time is in memory.
    """
    skipped = unheld.paths if unheld else set()
    left = dict(expected.by_path)
    for path, found in _entries(root, EVERYTHING):
        listed = left.pop(path, None)
        if found and listed and not _equal(found, listed, owners=owners):
            if difference := _difference(listed, found) or next(
                (
                    f"has {aspect} {is_ or 'none'}, not {was or 'none'}"
                    for aspect, was, is_ in _metadata(listed, found, owners=owners)
                    if was != is_ and (aspect, path) not in skipped
                ),
                "",
            ):
                yield f"{show(path)} {difference}"
        elif path != "." and not (found and listed):
            yield f"{show(path)} {'cannot be read' if listed else 'is not in the list'}"
    yield from (f"{show(path)} is missing" for path in left)


def _equal(one: Listed, other: Listed, *, owners: bool) -> bool:
    """Whether everything is equal, owners only with `owners`: of most entries no differences need to be looked for."""
    return one[1 : 7 if owners else 5] == other[1 : 7 if owners else 5] and one[8:12] == other[8:12]


def _difference(listed: Listed, found: Listed) -> str:
    if found.kind is not listed.kind:
        return f"is a {found.kind}, not a {listed.kind}"
    if (found.sha256, found.target) != (listed.sha256, listed.target):
        return "has changed content"
    return ""


def _metadata(listed: Listed, found: Listed, *, owners: bool) -> Iterator[tuple[Aspect, object, object]]:
    """Yield aspects of metadata with both values."""
    if listed.kind is not FileKind.LINK:
        yield Aspect.MODE, f"{listed.mode:04o}", f"{found.mode:04o}"
    yield Aspect.ACL, listed.acl or "", found.acl or ""
    yield Aspect.XATTRS, listed.xattrs or "", found.xattrs or ""
    yield Aspect.TIME, listed.mtime_ns, found.mtime_ns
    if owners:
        yield Aspect.OWNER, (listed.uid, listed.gid), (found.uid, found.gid)


@dataclass(frozen=True)
class Changes:
    """Differing paths. Added or removed folders are listed only if empty."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def by_kind(self) -> dict[str, tuple[str, ...]]:
        return {"added": self.added, "changed": self.changed, "removed": self.removed}

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """JSON values: count and first paths of each kind, below `prefix`."""
        return {
            kind: {"count": len(paths), "first": [spelled(prefix + path) for path in paths[:SHOWN]]}
            for kind, paths in self.by_kind.items()
        }


def changes(before: FileList, after: FileList, *, owners: bool = True) -> Changes:
    """Changes from `before` to `after`; changed owners count only with `owners`."""
    old, new = before.by_path, after.by_path
    return Changes(
        tuple(path for path in _leaves(after) if path not in old),
        tuple(path for path in new if path in old and changed(old[path], new[path], owners=owners)),
        tuple(path for path in _leaves(before) if path not in new),
    )


def changed(one: Listed, other: Listed, *, owners: bool = True) -> str:
    """What differs: kind, content, mode, owner, ACL or attributes; "" if equal.

    Times are not compared: every swap changes those of a folder.
    """
    if one.kind is not other.kind:
        return "kind"
    if (one.sha256, one.target) != (other.sha256, other.target):
        return "content"
    if _mode(one, other) != _mode(other, one):
        return "mode"
    if owners and (one.uid, one.gid) != (other.uid, other.gid):
        return "owner"
    if one.acl is not None and other.acl is not None and one.acl != other.acl:
        return "ACL"
    if one.xattrs is not None and other.xattrs is not None and one.xattrs != other.xattrs:
        return "extended attributes"
    return ""


def _mode(one: Listed, other: Listed) -> int:
    """Comparable mode of `one`: a link has none, and a list without ACLs has the mask instead of the group's rights."""
    if one.kind is FileKind.LINK:
        return 0
    masked = (one.acl is None and other.acl) or (other.acl is None and one.acl)
    return one.mode & ~0o070 if masked else one.mode


def _leaves(files: FileList) -> list[str]:
    """Return the paths of files, links and empty folders."""
    parents = {parent(listed.path) for listed in files.files}
    return [listed.path for listed in files.files if listed.path not in parents]


def stamp(status: os.stat_result) -> int:
    """A number that changes when the entry is changed or replaced."""
    found = (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    return hash(found)


def same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody wrote to the file meanwhile."""
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
    )


class Fingerprint:
    """A digest over every entry's path, inode, size, mode, owner, mtime and ctime.

    Programs cannot set ctime, so edits that keep size and mtime are detected too. `settled` is False if an entry was so
    recent when it was read that a later edit could have equal times: then the fingerprint proves nothing.
    """

    def __init__(self) -> None:
        self._settled = True
        self._records = xxh3_128()
        self._paths = xxh3_128()
        #: Entries that were added one by one since a time.
        self._since = 0
        self._waiting: list[tuple[str, Record]] = []

    @property
    def settled(self) -> bool:
        self._add_waiting()
        return self._settled

    def unsettle(self) -> None:
        """Let it prove nothing, because an entry changed while it was read."""
        self._settled = False

    def add(self, path: str, status: os.stat_result) -> None:
        """Add the entry `path`, right after it was read."""
        now = time.time_ns()
        if now - self._since > _TOGETHER_NS:
            self._add_waiting()
            self._since = now
        self._waiting.append((path, recorded(status)))

    def add_read(self, path: str, record: Record, since_ns: int) -> None:
        """Add the entry `path`, whose record was read after `since_ns`."""
        if since_ns != self._since:
            self._add_waiting()
            self._since = since_ns
        self._waiting.append((path, record))

    def _add_waiting(self) -> None:
        if self._waiting:
            paths = "".join(f"{path}\0" for path, _ in self._waiting)
            self._add([record for _, record in self._waiting], paths, self._since)
            self._waiting = []

    def add_run(self, run: EntryRun) -> None:
        """Add the entries of `run`, as `add` does, in one step. OSError if one of them cannot be read."""
        prefix, folder, names, kinds, _ = run
        if None in kinds.values():
            names = [name for name in names if kinds.get(name, FileKind.FILE)]
        if names:
            self._add_waiting()
            now = time.time_ns()
            records = [recorded(os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]
            self._add(records, prefix + f"\0{prefix}".join(names) + "\0", now)

    def _add(self, records: list[Record], paths: str, now: int) -> None:
        """Add `records`, read since `now`, of `paths`, each of which ends with a NUL."""
        self._records.update(_packed(records))
        self._paths.update(paths.encode("utf-8", "surrogateescape"))
        if max(map(_CTIME, records)) > now - COARSE_TICK_NS:
            self._settled &= not any(is_young(ctime, now) for ctime in map(_CTIME, records))

    def hexdigest(self) -> str:
        self._add_waiting()
        return xxh3_128(self._records.digest() + self._paths.digest()).hexdigest()


def _packed(records: list[Record]) -> bytes:
    try:
        return b"".join(starmap(_PACKED, records))
    except struct.error:  # a time after the year 2262: too large for this format
        return repr(records[0]).encode() if len(records) == 1 else b"".join(_packed([one]) for one in records)


def fingerprint_of(
    root: int, scope: Scope | None = None, left_out: ExcludedEntries | None = None
) -> Fingerprint | None:
    """Fingerprint that `dump` of the open folder `root` would record; None if an entry is unreadable.

    Args:
        scope: the part of the folder; None: everything.
        left_out: counts what `scope` excludes.
    """
    scope = scope or EVERYTHING
    fingerprint = Fingerprint()
    if scope.only is None:
        fingerprint.add(".", os.fstat(root))
    for run in runs(root, scope, left_out):
        if run.error:
            return None
        try:
            fingerprint.add_run(run)
        except OSError:
            return None
    return fingerprint
