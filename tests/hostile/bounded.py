"""Runs code that reads a hostile file in a child that the kernel bounds in time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys


def bounded(code: str, *arguments: object, seconds: int, mebibytes: int) -> str:
    """What `code` prints; it may use `seconds` of processor time and `mebibytes` of address space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        preexec_fn=limit,  # no threads here
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout
