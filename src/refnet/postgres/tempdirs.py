"""Private temporary folders: removed at the end, or by the next run if a run is killed.

They can contain secrets. The folder's lock tells the leftover of a killed run from the folder of a living one.
"""

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import remove_tree
from refnet.core.locks import locked

_PREFIX = "refnet-private-"
_LOCK = ".lock"
#: In seconds; a new folder looks like a leftover until it is locked, which takes much less.
_YOUNG = 60.0


@contextmanager
def private_folder(base: Path | None = None) -> Iterator[Path]:
    """Create a folder that only this user can enter, below `base`; None: the system's temporary folder."""
    base = base or Path(tempfile.gettempdir())
    remove_leftovers(base, _PREFIX, _LOCK, young=_YOUNG)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        with locked(folder / _LOCK):
            yield folder
    finally:
        with suppress(OSError):
            remove_tree(folder)


def remove_leftovers(
    base: Path, prefix: str, lock: str, *, young: float = 0.0, end: Callable[[Path], None] | None = None
) -> None:
    """Remove the folders of killed runs in `base`; nothing in them is trusted and no link is followed.

    Args:
        lock: the file in each folder that a running process has locked.
        young: keep folders that are younger than this, in seconds.
        end: called with a folder before it is removed.
    """
    for folder in base.glob(f"{prefix}*"):
        with suppress(OSError, RefnetError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if young and time.time() - found.st_mtime < young:
                continue
            with locked(folder / lock, seconds=0.0) as ours:
                if ours:
                    if end:
                        end(folder)
                    remove_tree(folder)
