"""Sessions that build indexes sort in what their server can spare, and take its parallel workers where cores are idle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from refnet.sources.database.restore.loader_settings import build_settings

MEMORY, WORKERS = "maintenance_work_mem", "max_parallel_maintenance_workers"


def live(megabytes: int) -> Any:
    """A session of a server with so much of shared_buffers."""
    return SimpleNamespace(execute=lambda _: SimpleNamespace(fetchall=lambda: [(megabytes << 10,)]))


@pytest.mark.parametrize(
    ("megabytes", "jobs", "kilobytes"),
    [(128, 2, 64), (1024, 2, 128), (8192, 2, 256), (8192, 16, 128), (128, 1, 64)],
)
def test_sessions_of_a_live_server_sort_in_a_quarter_of_its_buffers(
    megabytes: int, jobs: int, kilobytes: int
) -> None:
    assert build_settings(live(megabytes), jobs, scratch=False)[MEMORY] == f"{kilobytes << 10}kB"


def test_sessions_of_a_scratch_server_sort_in_the_memory_that_it_was_given() -> None:
    assert MEMORY not in build_settings(live(8192), 2, scratch=True)


def test_no_build_has_a_parallel_worker_beside_others() -> None:
    assert build_settings(live(128), 2, scratch=False)[WORKERS] == "0"
    assert build_settings(live(128), 8, scratch=True)[WORKERS] == "0"


def test_a_live_server_decides_itself_beside_many_jobs() -> None:
    assert WORKERS not in build_settings(live(128), 8, scratch=False)
