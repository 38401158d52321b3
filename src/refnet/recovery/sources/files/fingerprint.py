"""A fingerprint of a folder, from the file system's own records: equal ones mean that nothing changed."""

import os
import time
from collections.abc import Collection
from operator import attrgetter

from xxhash import xxh3_128

from refnet.recovery.sources.files.walk import walk

#: A second change within one clock tick leaves no trace. Ticks are 10 ms at most, on some file systems whole
#: seconds (FAT: two).
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_RECORDED = attrgetter("st_ino", "st_size", "st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns")


class Fingerprint:
    """A digest over every entry's path, inode, size, mode, owner, mtime and ctime.

    No program can set ctime, so an edit that keeps size and mtime shows too. `settled` is False where an entry was
    so young when it was read that a later edit could have the same times: then the fingerprint proves nothing.
    """

    def __init__(self) -> None:
        self.settled = True
        self._digest = xxh3_128()

    def add(self, raw: bytes, status: os.stat_result, *, steady: bool = True) -> None:
        """Add the entry with the path `raw`, right after it was read."""
        self._digest.update(b"%b\0%d %d %d %d %d %d %d;" % (raw, *_RECORDED(status)))
        tick = _TICK_NS if status.st_ctime_ns % 1_000_000_000 else _COARSE_TICK_NS
        if not steady or time.time_ns() - status.st_ctime_ns < tick:
            self.settled = False

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def fingerprint_of(root: int, only: Collection[str] | None) -> Fingerprint | None:
    """Return the fingerprint that `dump` of the open folder `root` would make; None if an entry cannot be read."""
    fingerprint = Fingerprint()
    if only is None:
        fingerprint.add(b".", os.fstat(root))
    for found in walk(root, only):
        if found.error:
            return None
        if found.kind is not None:
            try:
                status = os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
            except OSError:
                return None
            fingerprint.add(os.fsencode(found.path), status)
    return fingerprint
