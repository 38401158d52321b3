"""Where a Compose project keeps its file: the names that Compose itself accepts."""

from __future__ import annotations

from pathlib import Path

#: In the order in which Compose looks for them.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


def compose_file(folder: Path) -> Path | None:
    """The Compose file of `folder`, or None where it has none."""
    return next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
