"""Runs programs to their end within a time limit, and waits for conditions."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError

#: For a program that only looks something up or sends a signal.
QUICK_SECONDS = 30.0
_POLL_SECONDS = 0.005


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


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` is true; return False if it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True
