"""The benchmark's own measuring: a failure in a pipe is seen, and memory is that of the whole process tree."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from benchmarks.measure import FailedError, inherited, pipeline

MB = 1_000_000


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_inherits_nothing_that_changes_it_or_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFNET_JOBS", "PGHOST", "PYTHONUNBUFFERED", "LANG"):
        monkeypatch.setenv(name, "1")
    assert {"REFNET_JOBS", "PGHOST", "PYTHONUNBUFFERED"}.isdisjoint(inherited())
    assert inherited()["LANG"] == "1"


def test_a_failure_in_front_of_a_pipe_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="exit 3: it broke"):
        pipeline([["sh", "-c", "echo it broke >&2; exit 3"], ["cat"]], os.environ, tmp_path)


def test_a_pipeline_passes_everything_on_and_takes_its_time(tmp_path: Path) -> None:
    began = time.perf_counter()
    run = pipeline([["printf", "ab"], ["sh", "-c", "sleep 0.2; cat"], ["cat"]], os.environ, tmp_path)
    assert (run.stdout, run.peak) == ("ab", None)
    assert 0.2 <= run.seconds <= time.perf_counter() - began


def test_memory_is_that_of_children_too(tmp_path: Path) -> None:
    child = f"held = b'x' * {80 * MB}; import time; time.sleep(0.5)"
    parent = (
        f"import subprocess, sys; held = b'x' * {40 * MB}; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    run = pipeline([python(parent)], os.environ, tmp_path, sample=True)
    assert run.peak is not None
    assert 120 * MB < run.peak < 180 * MB


def test_memory_that_a_fork_shares_counts_once(tmp_path: Path) -> None:
    code = f"import os, time; held = b'x' * {80 * MB}; pid = os.fork(); time.sleep(0.5); pid and os.waitpid(pid, 0)"
    run = pipeline([python(code)], os.environ, tmp_path, sample=True)
    assert run.peak is not None
    assert 80 * MB < run.peak < 130 * MB


def test_a_child_that_runs_no_program_yet_counts_once(tmp_path: Path) -> None:
    """subprocess makes its child by vfork; here it looks for its program in very many folders."""
    code = """
import resource, subprocess
try:
    subprocess.run(["none"], env={"PATH": ":".join(["/usr/.." * 500] * 10_000)})
except FileNotFoundError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    run = pipeline([python(code)], os.environ, tmp_path, sample=True)
    assert run.peak is not None
    assert 80 * MB < run.peak <= int(run.stdout) * 1024


def test_a_server_that_a_command_starts_is_counted_beside_it(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to(sys.executable)
    held = f"held = b'x' * {80 * MB}; import time; time.sleep(0.6)"
    code = f"import subprocess; subprocess.run([{str(tmp_path / 'postgres')!r}, '-c', {held!r}])"
    run = pipeline([python(code)], os.environ, tmp_path, sample=True)
    assert run.peak is not None
    assert run.beside is not None
    assert run.peak < 60 * MB
    assert run.beside > 80 * MB
