"""The lock of a source, by flock: it ends with its process, so a killed run leaves no lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.core.locks import take

LOCK_NAME = f"{HIDDEN_PREFIX}lock"


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder`. RefnetError with Exit.LOCKED if another run has locked it.

    The file stays: if it were removed, two runs could lock two files of one name. It contains the process id.
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
            "Choose a folder on a file system with locks (REFNET_BACKUP_DIR).",
        ) from error
    holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
    raise RefnetError(
        f"{what} is locked by another run of RefNet (process {holder or 'unknown'})",
        "Wait until it ends, then retry. A killed run leaves no lock.",
        Exit.LOCKED,
        transient=True,
    )
