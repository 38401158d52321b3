"""Fingerprint of a folder from file system metadata: equal fingerprints mean no changes."""

import os
import struct
import time
from itertools import starmap
from operator import attrgetter, itemgetter

from xxhash import xxh3_128

from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.scope import EVERYTHING, LeftOut, Scope
from refnet.sources.folder.walk import COARSE_TICK_NS, EntryRun, is_young, runs

_RECORDED = attrgetter("st_ino", "st_size", "st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns")
_PACKED = struct.Struct("<QqIIIqq").pack
_CTIME = itemgetter(6)


class Fingerprint:
    """A digest over every entry's path, inode, size, mode, owner, mtime and ctime.

    Programs cannot set ctime, so edits that keep size and mtime are detected too. `settled` is False if an entry was so
    recent when it was read that a later edit could have equal times: then the fingerprint proves nothing.
    """

    def __init__(self) -> None:
        self.settled = True
        self._records = xxh3_128()
        self._paths = xxh3_128()

    def add(self, path: str, status: os.stat_result, *, steady: bool = True) -> None:
        """Add the entry `path`, right after it was read."""
        self._add([_RECORDED(status)], f"{path}\0", time.time_ns())
        if not steady:
            self.settled = False

    def add_run(self, run: EntryRun) -> None:
        """Add the entries of `run`, as `add` does, in one step. OSError if one of them cannot be read."""
        prefix, folder, names, kinds, _ = run
        if None in kinds.values():
            names = [name for name in names if kinds.get(name, FileKind.FILE)]
        if names:
            now = time.time_ns()
            records = [_RECORDED(os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]
            self._add(records, prefix + f"\0{prefix}".join(names) + "\0", now)

    def _add(self, records: list[tuple[int, ...]], paths: str, now: int) -> None:
        """Add `records`, read since `now`, of `paths`, each of which ends with a NUL."""
        self._records.update(_packed(records))
        self._paths.update(paths.encode("utf-8", "surrogateescape"))
        if max(map(_CTIME, records)) > now - COARSE_TICK_NS:
            self.settled &= not any(is_young(ctime, now) for ctime in map(_CTIME, records))

    def hexdigest(self) -> str:
        return xxh3_128(self._records.digest() + self._paths.digest()).hexdigest()


def _packed(records: list[tuple[int, ...]]) -> bytes:
    try:
        return b"".join(starmap(_PACKED, records))
    except struct.error:  # a time after the year 2262: too large for this format
        return repr(records[0]).encode() if len(records) == 1 else b"".join(_packed([one]) for one in records)


def fingerprint_of(
    root: int, scope: Scope | None = None, left_out: LeftOut | None = None
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
