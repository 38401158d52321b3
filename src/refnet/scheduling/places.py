"""The names of the queues, and the paths in which beat and the workers of a REFNET_HOME keep their state."""

from pathlib import Path

#: The queues of tasks, as `refnet worker --queue` names them.
QUEUES = ("backup", "crawl", "summarize", "generate")


def queue_name(queue: str, instance: str | None = None) -> str:
    """Return the name that `queue` has at the broker; that of backups is Celery's default."""
    name = "celery" if queue == "backup" else queue
    return f"{name}@{instance}" if instance else name


def beat_folder(home: Path, instance: str | None = None) -> Path:
    """Return the folder of beat's record of what it sent when."""
    return home / (f"beat@{instance}" if instance else "beat")


def beat_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file that a running beat locks."""
    return beat_folder(home, instance) / "lock"


def worker_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file that every running worker locks, shared."""
    return beat_folder(home, instance) / "worker.lock"


def worker_sign(home: Path, host: str, instance: str | None = None) -> Path:
    """Return the file that every worker on the machine, or in the container, `host` touches; see `alive`."""
    return beat_folder(home, instance) / f"worker-{host}"


def beat_sign(folder: Path) -> Path:
    """Return the file that the beat of `folder` touches."""
    return folder / "alive"
