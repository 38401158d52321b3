"""The names of the queues, and the paths of the state of beat and workers in a REFNET_HOME."""

from pathlib import Path

#: The queues of tasks, as in `refnet worker --queue`.
QUEUES = ("backup", "crawl", "summarize", "generate")


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
    """Return the file that every worker on `host`, a machine or container, touches; see `alive`."""
    return beat_folder(home, instance) / f"worker-{host}"


def beat_sign(folder: Path) -> Path:
    """Return the file that the beat of `folder` touches."""
    return folder / "alive"
