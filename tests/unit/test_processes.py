"""A program that does not end is ended, and reported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.core.processes import ending_with_parent, run, until


def test_a_program_that_does_not_end_in_time_is_killed_and_named() -> None:
    began = time.monotonic()
    with pytest.raises(RefnetError, match="sleep timed out after 0 s") as refused:
        run(["sleep", "60"], 0.1)
    assert refused.value.transient
    assert time.monotonic() - began < 30


def test_a_program_that_fails_is_for_its_caller_to_judge() -> None:
    assert run(["false"]).returncode == 1


def test_a_condition_is_waited_for_until_its_time_is_over() -> None:
    answers = iter([False, False, True])
    assert until(lambda: next(answers), 10)
    assert not until(lambda: False, 0.05)


@pytest.mark.skipif(not ending_with_parent(signal.SIGTERM), reason="setpriv (util-linux) is not installed")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from refnet.core.processes import child\n"
        "with child(['sleep', '600'], sys.stderr) as started:\n"
        "    print(started.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert until(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()[:5], 10)
        parent.kill()
    assert until(lambda: not _runs(pid), 10)


@pytest.mark.skipif(not ending_with_parent(signal.SIGTERM), reason="setpriv (util-linux) is not installed")
def test_a_child_whose_parent_died_before_it_asked_for_the_signal_runs_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess; from refnet.core.processes import ending_with_parent\n"
        "late = ['sh', '-c', 'while ! [ -e dead ]; do sleep 0.01; done; exec \"$@\"', 'sh']\n"
        "started = subprocess.Popen([*late, *ending_with_parent(signal.SIGTERM), 'touch', 'ran'])\n"
        "print(started.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.wait()
    (tmp_path / "dead").touch()
    assert until(lambda: not _runs(pid), 10)
    assert not (tmp_path / "ran").exists()


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
