"""Whether a process of ours lives, told by a lock that the kernel holds for it and drops with it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refnet.errors import RefnetError
from refnet.files import open_file


@contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold the lock on `path` while the block runs; False where another process has it to itself."""
    with _opened(path, os.O_RDWR | os.O_CREAT) as handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock on `path`, shared or not. Changes nothing."""
    if not path.exists():
        return False
    with _opened(path, os.O_RDONLY) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    try:
        if flags & os.O_CREAT:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = open_file(path, flags)
    except OSError as error:
        raise RefnetError(
            f"cannot open {path}: {error.strerror}",
            "Run this as the user who made that folder, or set REFNET_HOME to another one.",
        ) from error
    try:
        yield handle
    finally:
        os.close(handle)
