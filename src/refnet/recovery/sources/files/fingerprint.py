"""Whether a folder is still what the last artifact holds, told from the file system's own records."""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from xxhash import xxh3_128

from refnet.recovery.sources.files.walk import walk

#: A change within the clock tick of the last one leaves no trace; ticks are 10 ms at most, on some file
#: systems whole seconds (FAT: two).
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000


class TreeState:
    """A digest over every entry's path, inode, size, mode, owner, mtime and ctime.

    ctime cannot be set by a program, so an edit that keeps size and mtime shows too. `settled` is False where
    an entry was so young when it was read that a later edit could carry the same times: then nothing is shared.
    """

    def __init__(self) -> None:
        self.settled = True
        self._digest = xxh3_128()

    def add(self, raw: bytes, status: os.stat_result, *, steady: bool = True) -> None:
        """Take in the entry whose path is `raw`, right after it was read."""
        self._digest.update(
            b"%b\0%d %d %d %d %d %d %d;"
            % (
                raw,
                status.st_ino,
                status.st_size,
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
        )
        tick = _TICK_NS if status.st_ctime_ns % 1_000_000_000 else _COARSE_TICK_NS
        if not steady or time.time_ns() - status.st_ctime_ns < tick:
            self.settled = False

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def state_of(root: int, only: Collection[str] | None) -> TreeState | None:
    """The state of the open folder `root` as `dump` would find it; None where an entry cannot be read."""
    state = TreeState()
    if only is None:
        state.add(b".", os.fstat(root))
    for found in walk(root, only):
        if found.error:
            return None
        if found.kind is not None:
            try:
                state.add(
                    os.fsencode(found.path), os.stat(found.name, dir_fd=found.folder, follow_symlinks=False)
                )
            except OSError:
                return None
    return state
