"""Beat and workers: the names of the queues, the paths of their state in a REFNET_HOME, and whether they are alive.

They touch a file while they work: Celery's own `inspect ping` costs seconds of a core, and beat answers no ping.
"""

from __future__ import annotations

import time
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import explained

#: The queues of tasks, as in `refnet worker --queue`.
QUEUES = ("backup", "crawl", "summarize", "generate")
#: The oldest valid sign of life, in seconds. A connected worker touches its file every 2 s, beat at least every 30 s.
WORKER_SECONDS, BEAT_SECONDS = 30, 90


def queue_name(queue: str, instance: str | None = None) -> str:
    """Return the name of `queue` at the broker; for backups it is Celery's default."""
    name = "celery" if queue == "backup" else queue
    return f"{name}@{instance}" if instance else name


def beat_folder(home: Path, instance: str | None = None) -> Path:
    """Return the folder of beat's state: the last run of each task."""
    return home / (f"beat@{instance}" if instance else "beat")


def beat_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file that a running beat locks."""
    return beat_folder(home, instance) / "lock"


def worker_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file on which every running worker has a shared lock."""
    return beat_folder(home, instance) / "worker.lock"


def worker_sign(home: Path, host: str, instance: str | None = None) -> Path:
    """Return the file that every worker on `host`, a machine or container, touches; see `check_alive`."""
    return beat_folder(home, instance) / f"worker-{host}"


def beat_sign(folder: Path) -> Path:
    """Return the file that the beat of `folder` touches."""
    return folder / "alive"


def heartbeat_age(sign: Path) -> float | None:
    """Seconds since `sign` was touched; None: never; negative: the clock has been set back since."""
    with explained(sign):
        try:
            return time.time() - sign.lstat().st_mtime
        except FileNotFoundError:
            return None


def check_alive(sign: Path, what: str, seconds: int) -> str:
    """Return a sentence that `what` is alive; RefnetError if its sign is more than `seconds` old."""
    found = heartbeat_age(sign)
    if found is not None and abs(found) <= seconds:
        return f"{what} is alive: last heartbeat {abs(found):.0f} s ago"
    said = "no heartbeat yet" if found is None else f"last heartbeat {found:,.0f} s ago"
    raise RefnetError(f"{what} is not alive: {said}", "See its log; it may be waiting for the broker.")
