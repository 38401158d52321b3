"""A scratch server gets what the machine or its container can spare, within prove.memory."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from refnet.postgres.scratch_memory import free_memory, scratch_settings

MIB, GIB = 1 << 20, 1 << 30
LEAST = (256 * MIB, 64 * MIB)


def sizes(free: int, bound: int | None = None, jobs: int = 2, text: int | None = None) -> tuple[int, int]:
    settings = scratch_settings(free, bound, jobs, text)
    assert [*settings] == ["shared_buffers", "maintenance_work_mem"]
    assert all(value.endswith("kB") for value in settings.values())
    buffers, sort = (int(value.removesuffix("kB")) << 10 for value in settings.values())
    return buffers, sort


def test_a_machine_with_much_free_memory_gives_two_gigabytes_and_a_quarter_for_each_build() -> None:
    assert sizes(16 * GIB) == (2 * GIB, 256 * MIB) == sizes(256 * GIB)


@pytest.mark.parametrize("free", [0, 800 * MIB, GIB, 3 * GIB // 2])
def test_a_small_machine_and_an_unknown_one_give_the_least_sizes(free: int) -> None:
    assert sizes(free) == LEAST


def test_the_server_of_a_small_artifact_has_the_least_buffers() -> None:
    assert sizes(16 * GIB, text=5 * MIB)[0] == 256 * MIB
    assert sizes(16 * GIB, text=400 * MIB)[0] == 800 * MIB


@pytest.mark.parametrize("jobs", [1, 2, 8, 64])
def test_all_of_a_server_is_at_most_half_of_what_is_free_and_beyond_the_least_a_quarter(jobs: int) -> None:
    for free in range(256 * MIB + jobs * 8 * MIB, 20 * GIB, 97 * MIB):
        buffers, sort = sizes(free, jobs=jobs)
        used, least = buffers + jobs * sort, LEAST[0] + jobs * LEAST[1]
        assert used <= free // 2
        assert used <= max(least, free // 4)


@pytest.mark.parametrize("bound", [100 * MIB, 300 * MIB, 500 * MIB, GIB])
def test_the_setting_bounds_a_server_on_every_machine(bound: int) -> None:
    for free in (0, 512 * MIB, 16 * GIB):
        buffers, sort = sizes(free, bound)
        assert buffers + 2 * sort <= bound


def test_a_setting_of_0_gives_the_least_sizes_and_a_large_one_no_more_than_a_quarter() -> None:
    assert sizes(16 * GIB, 0) == LEAST
    assert sizes(4 * GIB, 64 * GIB) == sizes(4 * GIB)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of a machine with 8 GB free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    meminfo = "MemAvailable: {} kB\nCommitLimit: {} kB\nCommitted_AS: {} kB\nHugePages_Total: 0\n"
    (tmp_path / "proc/meminfo").write_text(meminfo.format(8 << 20, 4 << 20, 3 << 20))
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/backup.service\n")
    (tmp_path / "cgroup/system.slice/backup.service").mkdir(parents=True)
    return tmp_path


def free_on(machine: Path) -> int:
    return free_memory(machine / "proc", machine / "cgroup")


def test_the_limit_of_a_unit_counts_as_the_memory_of_the_machine(machine: Path) -> None:
    assert free_on(machine) == 8 * GIB
    group = machine / "cgroup/system.slice/backup.service"
    (group / "memory.max").write_text(f"{GIB}\n")
    (group / "memory.current").write_text(f"{700 * MIB}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {300 * MIB}\n")
    assert free_on(machine) == 624 * MIB
    assert sizes(free_on(machine))[0] < 256 * MIB


def test_a_container_without_free_memory_is_not_taken_for_an_unknown_machine(machine: Path) -> None:
    group = machine / "cgroup/system.slice"
    (group / "memory.max").write_text(f"{GIB}\n")
    (group / "memory.current").write_text(f"{GIB + 4096}\n")
    (group / "memory.stat").write_text("inactive_file 0\n")
    assert free_on(machine) == 1
    assert sizes(1) == (16 * MIB, 4 * MIB)


def test_without_overcommitment_what_can_still_be_mapped_counts(machine: Path) -> None:
    (machine / "proc/sys/vm").mkdir(parents=True)
    (machine / "proc/sys/vm/overcommit_memory").write_text("2\n")
    assert free_on(machine) == GIB


def test_a_limit_of_the_address_space_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * GIB, resource.RLIM_INFINITY))
    assert free_on(machine) == 2 * GIB


def test_a_system_without_proc_is_unknown(tmp_path: Path) -> None:
    assert free_on(tmp_path) == 0
