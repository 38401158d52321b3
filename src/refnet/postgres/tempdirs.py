"""Private temporary folders: removed at the end, or by the next run if a run is killed.

They can contain secrets. The folder's lock tells the leftover of a killed run from the folder of a living one.
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
#: A folder looks like a leftover until it is locked, which takes much less than this, in seconds.
_YOUNG = 60.0


@contextmanager
def private_folder() -> Iterator[Path]:
    """Create a folder that this user alone can enter."""
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
