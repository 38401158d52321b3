"""Where beat and the workers of a REFNET_HOME keep their things."""

from __future__ import annotations

from pathlib import Path


def beat_folder(home: Path) -> Path:
    """Where beat keeps when it sent what."""
    return home / "beat"


def beat_lock(home: Path) -> Path:
    """OpenArtifact while a beat runs."""
    return beat_folder(home) / "lock"


def worker_lock(home: Path) -> Path:
    """OpenArtifact, shared, by every worker."""
    return beat_folder(home) / "worker.lock"
