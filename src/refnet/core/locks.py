"""Locks that the kernel holds for a process (flock) and drops when it ends: a killed run blocks nobody.

A probe takes the lock for a moment, as /proc/locks names no files and does not show other containers. An owner that
finds the lock taken therefore retries for `PROBE_SECONDS`.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refnet.core.files import explained, open_file

#: Much longer than a probe locks a file.
PROBE_SECONDS = 0.5
_POLL_SECONDS = 0.005
_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}


def take(handle: int, *, shared: bool = False, seconds: float | None = 0.0) -> bool:
    """Lock the open file `handle` until it is closed; False if another process has it locked.

    Args:
        shared: any number of processes may lock it this way at once.
        seconds: how long to wait for the lock; None: forever.

    OSError if the file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if seconds is None:
        fcntl.flock(handle, kind)
        return True
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)


@contextmanager
def locked(path: Path, *, shared: bool = False, seconds: float | None = None) -> Iterator[bool]:
    """Lock `path`, created if it is missing, while the block runs; yield False if another process has it locked.

    `shared` and `seconds` as for `take`. RefnetError if `path` cannot be opened.
    """
    with explained(path):
        handle = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        with explained(path):
            ours = take(handle, shared=shared, seconds=seconds)
        yield ours
    finally:
        os.close(handle)


def is_locked(path: Path, *, shared: bool = False) -> bool:
    """Return whether a living process has `path` locked; `shared`: owners take shared locks.

    RefnetError if `path` exists but cannot be opened.
    """
    with explained(path):
        try:
            handle = open_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    try:
        if shared:  # only an exclusive lock conflicts with shared ones, and briefly with another probe
            return not take(handle, seconds=PROBE_SECONDS / 10)
        return not take(handle, shared=True)
    finally:
        os.close(handle)
