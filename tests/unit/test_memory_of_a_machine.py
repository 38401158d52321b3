"""The memory that a machine has left, as the kernel reports it, inside the limits of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.core.memory import available

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 8 GiB of free memory."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "groups").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/refnet.slice/backup.service\n")
    return tmp_path


def left(machine: Path) -> int:
    return available(machine / "proc", machine / "groups")


def group(folder: Path, most: str, used: int, cache: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def test_without_limits_it_is_what_the_machine_has(machine: Path) -> None:
    group(machine / "groups" / "refnet.slice", "max", 5, 5)
    assert left(machine) == 8 * GIB


def test_the_tightest_limit_counts_without_the_cache_inside_it(machine: Path) -> None:
    group(machine / "groups" / "refnet.slice", str(4 * GIB), 3 * GIB, GIB)
    group(machine / "groups" / "refnet.slice" / "backup.service", str(3 * GIB), 0, 0)
    assert left(machine) == 2 * GIB


def test_a_limit_of_the_first_version_of_control_groups_counts(machine: Path) -> None:
    (machine / "proc" / "self" / "cgroup").write_text("9:cpu:/\n4:memory:/docker/1\n")
    folder = machine / "groups" / "memory" / "docker" / "1"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB // 2}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert left(machine) == GIB // 2


def test_a_group_that_is_over_its_limit_has_nothing_left(machine: Path) -> None:
    group(machine / "groups" / "refnet.slice", str(GIB), 2 * GIB, 0)
    assert left(machine) == 0


@pytest.mark.parametrize("text", ["", "MemAvailable: much kB\n", "MemTotal: 1 kB\n"])
def test_a_machine_that_does_not_say_has_nothing(machine: Path, text: str) -> None:
    (machine / "proc" / "meminfo").write_text(text)
    assert left(machine) == 0


def test_this_machine_has_some() -> None:
    assert available() > 0
