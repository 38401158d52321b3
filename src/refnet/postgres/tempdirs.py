"""Private folders in the system's folder for temporary files: gone at the end, or with the next run.

What lies in them can be secret, so what a killed run left is not left lying about. The folder's lock, held by the
kernel, tells a leftover from a run that still goes on.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refnet.errors import RefnetError
from refnet.files import remove_tree
from refnet.locks import locked

_PREFIX = "refnet-private-"
_LOCK = ".lock"
#: Between its making and its locking a folder looks like a leftover; none takes this long, in seconds.
_YOUNG = 60.0


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for this user alone."""
    base = Path(tempfile.gettempdir())
    _remove_leftovers(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        with locked(folder / _LOCK):
            yield folder
    finally:
        with suppress(OSError):
            remove_tree(folder)


def _remove_leftovers(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError, RefnetError):
            found = folder.lstat()
            young = time.time() - found.st_mtime < _YOUNG
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or young:
                continue
            with locked(folder / _LOCK, seconds=0.0) as ours:
                if ours:
                    remove_tree(folder)
