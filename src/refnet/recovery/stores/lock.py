"""The one lock of a source, held by the kernel: it ends with its process, so a killed run blocks nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import explained
from refnet.locks import take
from refnet.recovery.model.artifact import HIDDEN_PREFIX

LOCK_NAME = f"{HIDDEN_PREFIX}lock"


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of `folder`; RefnetError with Exit.LOCKED where another run holds it.

    The file stays behind: removing it would let two runs lock two files of one name. It holds the process id.
    """
    path = folder / LOCK_NAME
    with explained(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _take(handle, what, path)
        with explained(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _take(handle: int, what: str, path: Path) -> None:
    try:
        if take(handle):
            return
    except OSError as error:
        raise RefnetError(
            f"{path.parent} cannot be locked: {error.strerror}",
            "Choose a folder on a file system that has locks (REFNET_BACKUP_DIR).",
        ) from error
    holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
    raise RefnetError(
        f"another run of RefNet is at work on {what} (process {holder or 'not known'})",
        "Wait until it has ended, then run this again; a run that was killed holds no lock.",
        Exit.LOCKED,
        transient=True,
    )
