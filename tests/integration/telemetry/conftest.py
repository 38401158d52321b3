"""A REFNET_HOME with artifacts, and the real command in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import forked
from tests.unit.telemetry.conftest import World

REFNET = Path(sys.executable).parent / "refnet"


def environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment in which RefNet knows nothing but `home` and `variables`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REFNET_", "PG"))}
    return inherited | {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_DATABASE_URL": "own",
        "REFNET_LOG_FOLDER": "none",
        **variables,
    }


def refnet(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return forked.text(*arguments, environment=environment(home, **variables), folder=home, seconds=120)


@contextmanager
def serving(home: Path, **variables: str) -> Iterator[str]:
    """`refnet metrics --serve` on a free port of this machine: its URL. It ends as a service ends, by SIGTERM."""
    process = subprocess.Popen(
        [REFNET, "metrics", "--serve", "127.0.0.1:0"],
        env=environment(home, **variables),
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1].removesuffix("/metrics")
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "stopped\n")


@pytest.fixture
def home(tmp_path: Path) -> World:
    """An artifact of the database, an hour old and proven."""
    from datetime import UTC, datetime

    world = World(tmp_path, now=datetime.now(UTC))
    world.artifact()
    return world
