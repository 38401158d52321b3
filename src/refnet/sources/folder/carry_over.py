"""Carries excluded live entries over into the restored folder, so that a swap does not remove them."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from refnet.core import attributes
from refnet.core.files import OPEN_FOLDER, names_in, opened
from refnet.core.member_names import MAX_DEPTH


def carry_over(live: int, fresh: int, paths: Iterable[str]) -> None:
    """Link the entries `paths` of the open folder `live` into `fresh`, at the same paths; OSError if that fails.

    Files become hard links in both versions, without using space; folders are recreated.
    """
    for path in paths:
        with suppress(FileNotFoundError):  # it is gone since it was found
            _carry(path.split("/"), live, fresh, 0)


def _carry(parts: list[str], live: int, fresh: int, depth: int) -> None:
    name, *below = parts
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    if not below and not stat.S_ISDIR(os.stat(name, dir_fd=live, follow_symlinks=False).st_mode):
        with _unchanged_time(fresh):
            os.link(name, name, src_dir_fd=live, dst_dir_fd=fresh, follow_symlinks=False)
        return
    with opened(name, OPEN_FOLDER, live) as source, _folder(name, source, fresh) as target:
        for inner in [below] if below else ([one] for one in names_in(source)):
            with suppress(FileNotFoundError):
                _carry(inner, source, target, depth + 1)


@contextmanager
def _folder(name: str, live: int, fresh: int) -> Iterator[int]:
    """Open the folder `name` of the open `fresh`; if it is new, it becomes like the open `live`."""
    try:
        with _unchanged_time(fresh):
            os.mkdir(name, 0o700, dir_fd=fresh)
    except FileExistsError:
        new = False
    else:
        new = True
    with opened(name, OPEN_FOLDER, fresh) as handle:
        yield handle
        if new:
            attributes.copy(live, handle)
            found = os.fstat(live)
            os.utime(handle, ns=(found.st_atime_ns, found.st_mtime_ns))


@contextmanager
def _unchanged_time(folder: int) -> Iterator[None]:
    """Give the open `folder` the times that it has now, after the block."""
    before = os.fstat(folder)
    yield
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
