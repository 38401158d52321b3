"""Pieces of remote stores that commands read before, in REFNET_HOME/cache: the next command does not fetch them again.

They are encrypted as in their store, so nothing readable lies there, and each is a file with the SHA-256 of its bytes as its
name. A signed manifest says which SHA-256 a piece has, and each read compares it: what changed here is fetched again. Any
number of processes may add and remove files, and so may a person.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from refnet.catalog.remote import Piece
from refnet.core.errors import RefnetError
from refnet.core.files import NEW_FILE, make_folder, opened, read_regular, write_all

_NAME = re.compile(r"[0-9a-f]{64}")
#: The most files: each command that adds one lists them.
_MOST_FILES = 10_000
#: What other processes added is seen after so many bytes.
_SEEN_AFTER = 64 << 20
#: After that many seconds, what a killed process left of a file is removed.
_LEFT_SECONDS = 86_400.0


class PieceCache:
    """The cache. What cannot be read or written is as if it were not there.

    Args:
        folder: created when something is added.
        most: of all files, in bytes; a command adds at most half of that. 0: nothing is kept, nor read.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._alone = Lock()
        #: Bytes that this process added, and those after which it looks at all files again.
        self._added = self._look = 0

    def get(self, piece: Piece) -> bytes:
        """The stored object of `piece`, or b""."""
        path = self._folder / piece.sha256
        if not self._most:
            return b""
        with suppress(OSError):
            data = read_regular(path, piece.size, owner=os.geteuid())
            if len(data) == piece.size and hashlib.sha256(data).hexdigest() == piece.sha256:
                with suppress(OSError):  # another process removed it
                    os.utime(path)
                return data
            path.unlink(missing_ok=True)
        return b""

    def add(self, piece: Piece, data: bytes) -> bool:
        """Keep the object `data`, which is that of `piece`; False if it is not kept."""
        with self._alone, suppress(OSError, RefnetError):
            if self._added + len(data) > self._most // 2:
                return False
            make_folder(self._folder)
            if shutil.disk_usage(self._folder).free < 2 * self._most:
                return False
            self._write(piece.sha256, data)
            self._added += len(data)
            if self._added >= self._look:
                self._look = self._added + _SEEN_AFTER
                self._shrink()
            return True
        return False

    def _write(self, name: str, data: bytes) -> None:
        """Write a file without flushing it: what a crash leaves of it is not what its name says."""
        hidden = f".{name}.{secrets.token_hex(8)}"
        with opened(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as folder:
            try:
                with opened(hidden, NEW_FILE, folder) as handle:
                    os.fchmod(handle, 0o600)
                    write_all(handle, data)
                os.replace(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(hidden, dir_fd=folder)
                raise

    def _shrink(self) -> None:
        """Remove the files that were used the longest ago until a tenth is free, if there are too many or too large ones."""
        found, left = list[tuple[float, int, str]](), time.time() - _LEFT_SECONDS
        with os.scandir(self._folder) as files:
            for one in files:
                with suppress(OSError):  # another process removed it
                    known = one.stat(follow_symlinks=False)
                    if _NAME.fullmatch(one.name):
                        found.append((known.st_mtime, known.st_size, one.name))
                    elif one.name.startswith(".") and known.st_mtime < left:
                        Path(one.path).unlink()
        size, count = sum(one[1] for one in found), len(found)
        if size <= self._most and count <= _MOST_FILES:
            return
        for _, length, name in sorted(found):
            if size <= self._most * 0.9 and count <= _MOST_FILES * 0.9:
                break
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
            size, count = size - length, count - 1
