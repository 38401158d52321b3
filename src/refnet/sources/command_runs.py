"""Runs one external command with limits of time and output, and kills all processes that it started."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refnet.core.processes import until

#: Limits of the output that is passed on, in bytes and lines; the rest is read and dropped.
MOST_BYTES, MOST_LINES = 1 << 20, 10_000
_CHUNK = 1 << 16
#: Time for what a command has left running to write its last words, and to end, in seconds.
_LAST_WORDS, _ENDING = 0.5, 10.0
#: Marks every process that a command starts, also one that left its session.
_MARK = "REFNET_HOOK_RUN"


def run(
    words: Sequence[str],
    *,
    seconds: float,
    tell: Callable[[str], None],
    env: Mapping[str, str],
    cwd: str | Path,
) -> str:
    """Run the command `words`; return why it failed, or "".

    Args:
        seconds: time limit.
        tell: called with each line of its output, at most MOST_LINES of them and MOST_BYTES.
        env: its environment.
    """
    token = secrets.token_hex(16)
    try:
        process = subprocess.Popen(
            words,
            env={**env, _MARK: token},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"it cannot be started: {reason}"
    output, why = _Output(tell), f"it did not end within {seconds:.0f} s"
    try:
        if _ends(process, output, time.monotonic() + seconds):
            why = _ended(process.returncode)
    finally:
        left = _end(process, token)
    output.close()
    if left:
        tell("(processes that it left running were killed)")
    return why


def _ends(process: subprocess.Popen[bytes], output: _Output, end: float) -> bool:
    """Read the output until the process ends; False if the time `end` comes first."""
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    pipe, open_pipe, ended = process.stdout.fileno(), True, False
    while open_pipe or not ended:
        if not ended and process.poll() is not None:
            ended, end = True, min(end, time.monotonic() + _LAST_WORDS)
        left = end - time.monotonic()
        if left <= 0:
            break
        if open_pipe and select.select([pipe], [], [], min(left, 0.1))[0]:
            data = os.read(pipe, _CHUNK)
            open_pipe = bool(data)
            output.add(data)
        elif not open_pipe:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left)
    return ended


def _end(process: subprocess.Popen[bytes], token: str) -> bool:
    """Kill the process and everything it started; return whether anything was still running."""
    found = process.poll() is None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    strays = _marked(token)
    if strays:
        until(lambda: not _kill(_marked(token)), _ENDING)
    process.wait()
    if process.stdout:
        process.stdout.close()
    return found or bool(strays)


def _kill(pids: Sequence[int]) -> bool:
    """Kill `pids`; return whether there are any."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _marked(token: str) -> list[int]:
    """Return the processes whose environment has the mark `token`."""
    wanted, found = f"{_MARK}={token}".encode(), []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _ended(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with {code}" if code else ""


@dataclass
class _Output:
    """Passes on a command's output line by line; drops a line cut by a limit, which may be half a secret."""

    tell: Callable[[str], None]
    rest: bytes = b""
    read: int = 0
    count: int = 0
    cut: bool = False

    def add(self, data: bytes) -> None:
        self.read += len(data)
        if self.cut:
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if self.count >= MOST_LINES:
                break
            self._tell(line)
        self.cut = self.read > MOST_BYTES or self.count >= MOST_LINES

    def close(self) -> None:
        if self.cut:
            self.tell(f"(the output has {self.read:,} bytes; the rest was dropped)")
        else:
            self._tell(self.rest)

    def _tell(self, line: bytes) -> None:
        if text := line.decode(errors="replace").rstrip():
            self.count += 1
            self.tell(text)
