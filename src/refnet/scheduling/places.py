"""The paths in which beat and the workers of a REFNET_HOME keep their state."""

from pathlib import Path


def beat_folder(home: Path) -> Path:
    """Return the folder of beat's record of what it sent when."""
    return home / "beat"


def beat_lock(home: Path) -> Path:
    """Return the file that a running beat locks."""
    return beat_folder(home) / "lock"


def worker_lock(home: Path) -> Path:
    """Return the file that every running worker locks, shared."""
    return beat_folder(home) / "worker.lock"
