"""Runs programs to their end within a time limit, and waits for conditions."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from refnet.core.errors import RefnetError

#: For a program that only looks something up or sends a signal.
QUICK_SECONDS = 30.0
_POLL_SECONDS = 0.005
#: The bytes of a program's messages that are read, from their end.
_MESSAGES = 4000


@dataclass(frozen=True)
class Ended:
    """The end of a program: its code, and what it wrote."""

    #: Its exit code; negative: the signal that ended it.
    code: int
    output: bytes
    #: The output is longer than it may be; `output` is its beginning, and the program was killed.
    cut: bool
    #: The end of its messages.
    messages: str


def run(
    command: Sequence[str | bytes | Path], seconds: float = QUICK_SECONDS, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run `command` as subprocess.run does with `options`, and return how it ended.

    RefnetError if it has not ended within `seconds`; it is killed then.
    """
    try:
        return subprocess.run(command, timeout=seconds, check=False, **options)
    except subprocess.TimeoutExpired:
        name = Path(str(command[0])).name
        raise RefnetError(
            f"{name} did not end within {seconds:.0f} s", "See what it waits for, and retry.", transient=True
        ) from None


def run_bounded(
    command: Sequence[str],
    seconds: float,
    most: int,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `command` with `given` as its input, and read at most `most` bytes of its output.

    It is killed after `seconds`. environment: variables besides those of this process. OSError if it cannot be run.
    """
    with TemporaryFile() as messages, open(os.memfd_create("input"), "r+b") as source:  # noqa: PTH123  # a handle
        source.write(given)
        source.seek(0)
        variables = {**os.environ, **(environment or {})}
        with subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=messages, env=variables
        ) as process:
            timer = threading.Timer(seconds, process.kill)
            timer.daemon = True
            timer.start()
            try:
                output = process.stdout.read(most + 1) if process.stdout else b""
                if len(output) > most:
                    process.kill()
                process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                timer.cancel()
        messages.seek(max(0, messages.seek(0, os.SEEK_END) - _MESSAGES))
        said = messages.read().decode(errors="replace")
    return Ended(process.returncode, output[:most], len(output) > most, said)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` is true; return False if it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True
