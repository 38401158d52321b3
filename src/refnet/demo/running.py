"""Runs the demo's commands one after the other; an interrupt ends the running one, and then the demo.

Each command has its own process group, so that Ctrl-C reaches only the demo: the demo ends the command by one
SIGTERM and waits for its cleanup. An interrupt never stops the demo's own cleanup.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import FrameType

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Time for a command to end after an interrupt; then it is killed.
_CLEAN_SECONDS = 60.0
_LOOK_SECONDS = 1.0


@contextmanager
def shielded() -> Iterator[None]:
    """Delay interrupts of the block, and of the programs that it runs, until its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code, output, duration (s)."""

    code: int
    output: str
    seconds: float


class Runner:
    """Runs one command at a time."""

    def __init__(self) -> None:
        self.interrupted = False
        self._since = 0.0
        self._child: subprocess.Popen[str] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle Ctrl-C, SIGTERM and SIGHUP within the block; raise KeyboardInterrupt at its end if one came."""
        before = {number: signal.signal(number, self._interrupt) for number in _ENDINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupted:
            raise KeyboardInterrupt

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ran:
        """Run `command` in `folder` to its end. KeyboardInterrupt if an interrupt came before or meanwhile."""
        self._stop_if_interrupted()
        began = perf_counter()
        child = self._child = _started(command, folder, environment)
        try:
            if self.interrupted:  # while it was being started
                child.terminate()
            output = self._wait(child)
        finally:
            self._child = None
        self._stop_if_interrupted()
        return Ran(child.returncode, output, perf_counter() - began)

    @staticmethod
    def clean(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ran:
        """Run a cleanup, even after or during an interrupt."""
        began = perf_counter()
        child = _started(command, folder, environment)
        output = child.communicate()[0]
        return Ran(child.returncode, output, perf_counter() - began)

    def _wait(self, child: subprocess.Popen[str]) -> str:
        while True:
            try:
                return child.communicate(timeout=_LOOK_SECONDS)[0]
            except subprocess.TimeoutExpired:
                if self.interrupted and perf_counter() - self._since > _CLEAN_SECONDS:
                    child.kill()

    def _stop_if_interrupted(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            return
        self.interrupted, self._since = True, perf_counter()
        if self._child:
            self._child.terminate()


def _started(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
