"""The paths in which beat and the workers of a REFNET_HOME keep their state."""

from pathlib import Path


def beat_folder(home: Path, instance: str | None = None) -> Path:
    """Return the folder of beat's record of what it sent when."""
    return home / (f"beat@{instance}" if instance else "beat")


def beat_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file that a running beat locks."""
    return beat_folder(home, instance) / "lock"


def worker_lock(home: Path, instance: str | None = None) -> Path:
    """Return the file that every running worker locks, shared."""
    return beat_folder(home, instance) / "worker.lock"
