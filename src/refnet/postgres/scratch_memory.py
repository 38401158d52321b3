"""The memory of a scratch server: its buffers, and the sorts of index builds.

PostgreSQL takes a page of its buffers when it first writes one. So beyond the least sizes, a server gets at most a
quarter of what is free; the least sizes are reduced where they would be more than half of it.
"""

import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from refnet.core import memory

_MIB = 1 << 20
#: shared_buffers, and maintenance_work_mem of each job.
_BUFFERS, _SORT = 256 * _MIB, 64 * _MIB
_FEWEST_BUFFERS, _SMALLEST_SORT = 16 * _MIB, 4 * _MIB
#: More gained nothing.
_MOST_BUFFERS, _MOST_SORT = 2048 * _MIB, 256 * _MIB
#: The sorts' part of what is given: a fifth.
_SORTS = 5
#: Rows with their indexes in pages, as a multiple of their text.
_IN_PAGES = 2


def scratch_settings(free: int, bound: int | None, jobs: int, text: int | None = None) -> Mapping[str, str]:
    """Return the settings of a scratch server that govern its memory.

    Args:
        free: bytes that new processes may use; 0: unknown.
        bound: the setting prove.memory; None: not set; 0: the least sizes.
        jobs: how many build indexes at once.
        text: bytes of the rows, as COPY writes them; None: unknown.
    """
    buffers, sort = _BUFFERS, _SORT
    least = buffers + jobs * sort
    limits = [*([free // 2] if free else []), *([bound] if bound else [])]
    given = 0 if bound == 0 else min([free // 4, *limits])
    if limits and min(limits) < least:
        buffers = max(_FEWEST_BUFFERS, min(limits) * buffers // least)
        sort = max(_SMALLEST_SORT, min(limits) * sort // least)
    elif given > least:
        sort = max(sort, min(_MOST_SORT, given // (_SORTS * jobs)))
        useful = _MOST_BUFFERS if text is None else min(_MOST_BUFFERS, _IN_PAGES * text)
        buffers = max(buffers, min(given - jobs * sort, useful))
    return {"shared_buffers": f"{buffers >> 10}kB", "maintenance_work_mem": f"{sort >> 10}kB"}


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that a server may use, also by the limits of processes and of overcommitment; 0: unknown."""
    try:
        lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
        known = {words[0]: int(words[1]) << 10 for words in lines}
    except (OSError, ValueError, IndexError):
        return 0
    if "MemAvailable:" not in known:
        return 0
    found = [memory.available(proc, groups)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit)
    with suppress(OSError, KeyError):
        # 2: what is mapped counts, not what is used.
        if (proc / "sys/vm/overcommit_memory").read_text().strip() == "2":
            found.append(known["CommitLimit:"] - known["Committed_AS:"])
    return max(1, min(found))
