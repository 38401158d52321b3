"""The first and the last moment of the command."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import ModuleType

import pytest

from refnet.__main__ import run


class _Interrupted(ModuleType):
    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_ctrl_c_while_the_modules_are_loading_ends_in_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "refnet.cli.main", _Interrupted("main"))
    monkeypatch.setattr(gc, "disable", lambda: None)  # this process goes on
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == "refnet: interrupted\n        Nothing was begun; retry."  # text: exit code 1


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
