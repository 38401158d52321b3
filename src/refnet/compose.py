"""The file of a Compose project, by the names that Compose accepts."""

from pathlib import Path

#: In Compose's order of search.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


def compose_file(folder: Path) -> Path | None:
    """Return the Compose file of `folder`; None if it has none."""
    return next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
