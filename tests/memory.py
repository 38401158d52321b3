"""A place for servers that nobody keeps: in memory, where this machine has room there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_ROOM = 4 << 30


def in_memory() -> Path | None:
    """/dev/shm where it has room and runs programs; None, which is the usual temporary folder, elsewhere.

    A database is 300 files, and where as many were just deleted, ext4 takes ten times as long to make them.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return None
    return memory if shutil.disk_usage(memory).free >= _ROOM else None
