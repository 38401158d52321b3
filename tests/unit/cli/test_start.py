"""The first and the last moment of the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

_INTERRUPTED = """
import os, signal, sys, types
from refnet.__main__ import run

class Loading(types.ModuleType):
    def __getattr__(self, name):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pass  # as a callback of an import does

sys.modules[sys.argv[1]] = Loading("main")
run()
"""


@pytest.mark.parametrize("module", ["refnet.cli.streams", "refnet.cli.main"])
def test_ctrl_c_while_the_modules_are_loading_ends_in_two_lines(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, module], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "refnet: interrupted\n        Nothing was begun; retry.\n")


def test_a_full_disk_under_the_output_is_an_error_of_two_lines() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "refnet", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "refnet: the output cannot be written: No space left on device",
        "        Free space, or write it elsewhere.",
    ]


def test_the_loaded_modules_are_no_work_for_the_garbage_collector() -> None:
    code = """
import atexit, gc, sys
from refnet.__main__ import run
atexit.register(lambda: print(gc.isenabled(), len(gc.get_objects()) < 20))
run()
"""
    for command, enabled in (("--help", False), ("list", True)):
        done = subprocess.run(
            [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == f"{enabled} True"
