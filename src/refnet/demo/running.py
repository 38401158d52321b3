"""Runs the demo's commands one after the other; an interrupt ends the running one, and then the demo.

Each command has its own process group, so that Ctrl-C reaches only the demo: the demo ends the command by one
SIGTERM and waits for its cleanup.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from refnet.core.signals import delayed

#: Time for a command to end after an interrupt; then it is killed.
_CLEAN_SECONDS = 60.0


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code, output, duration (s)."""

    code: int
    output: str
    seconds: float


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ran:
    """Run `command` in `folder` to its end; an interrupt ends it."""
    began = perf_counter()
    child: subprocess.Popen[str] | None = None
    try:
        with delayed():
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                process_group=0,
            )
        output = child.communicate()[0]
    finally:
        if child and child.poll() is None:
            _end(child)
    return Ran(child.returncode, output, perf_counter() - began)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=_CLEAN_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
