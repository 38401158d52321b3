"""Signs of life for health checks: files that workers and beat touch while they work.

Celery's own `inspect ping` costs seconds of a core, and beat answers no ping.
"""

from __future__ import annotations

import time
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import explained

#: The oldest valid sign, in seconds. A connected worker touches its file every 2 s, beat at least every 30 s.
WORKER_SECONDS, BEAT_SECONDS = 30, 90


def age(sign: Path) -> float | None:
    """Seconds since `sign` was touched; None: never; negative: the clock has been set back since."""
    with explained(sign):
        try:
            return time.time() - sign.lstat().st_mtime
        except FileNotFoundError:
            return None


def check(sign: Path, what: str, seconds: int) -> str:
    """Return a sentence that `what` is alive; RefnetError if its sign is more than `seconds` old."""
    found = age(sign)
    if found is not None and abs(found) <= seconds:
        return f"{what} is alive: last heartbeat {abs(found):.0f} s ago"
    said = "no heartbeat yet" if found is None else f"last heartbeat {found:,.0f} s ago"
    raise RefnetError(f"{what} is not alive: {said}", "See its log; it may be waiting for the broker.")
