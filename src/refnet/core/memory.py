"""How much memory this machine, and the container or unit around this process, still has; files in memory; the collector, and the heap.

Sources: proc(5), `MemAvailable`; the kernel's cgroup-v2 and cgroup-v1 documents, `memory.max`, `memory.current` and
`memory.stat`.
"""

from __future__ import annotations

import ctypes
import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

#: Files and folders of a limit, its use, and the part of the use that is cache: version 2 and 1 of control groups.
_GROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
#: mallopt's numbers and values: how many heaps (M_ARENA_MAX), from which size on memory is not of a heap
#: (M_MMAP_THRESHOLD), and how much stays free at its end (M_TRIM_THRESHOLD).
_MALLOC = ((-8, 1), (-3, 8 << 20), (-1, 16 << 20))


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that new processes may use without swapping; 0 if the system does not say."""
    with suppress(OSError, ValueError):
        lines = (proc / "meminfo").read_text().splitlines()
        free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
        return max(min([*free, *_limits(proc, groups)]), 0) if free else 0
    return 0


def _limits(proc: Path, groups: Path) -> Iterator[int]:
    """Yield what is left of the limit of each control group around this process."""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for folder, most, used, cache in _GROUPS:
                if folder in controllers.split(","):
                    group = groups / folder / path.lstrip("/")
                    for place in (group, *group.parents):
                        if place.is_relative_to(groups):
                            with suppress(OSError, ValueError):
                                limit = int((place / most).read_text())
                                yield limit - int((place / used).read_text()) + _cache(place, cache)


def _cache(group: Path, name: str) -> int:
    lines = (group / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def with_room(size: int) -> io.BytesIO:
    """A file in memory with room for `size` bytes: it need not grow. After the last write, `truncate` ends it."""
    return io.BytesIO(bytes(size))  # nothing is copied, and pages become memory when they are used


@contextmanager
def without_collections() -> Iterator[None]:
    """Pause the garbage collector where many objects live and none are in cycles: it would visit all of them repeatedly."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@cache
def share_one_heap() -> None:
    """Let all threads of glibc use one heap, so that memory of up to 8 MiB serves again, in whatever thread.

    Memory that the kernel clears for each piece takes longer than its encryption, and a tenth of the time in which a base
    backup is unpacked. Larger memory goes back at once: with that of 24 MiB in the heap, a fetch took a quarter more of it.
    """
    with suppress(AttributeError, OSError):  # another C library
        for parameter, value in _MALLOC:
            ctypes.CDLL(None).mallopt(parameter, value)
