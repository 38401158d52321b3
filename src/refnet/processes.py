"""Programs that are run to their end, within a time."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError

#: For a program that only looks something up or sends a signal.
QUICK_SECONDS = 30.0


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
