"""Homes with a cluster, for the tests of our own servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refnet.postgres import embedded
from refnet.postgres.cluster import start_embedded


@pytest.fixture(scope="session")
def made_home(short_folder: Path) -> Path:
    """A REFNET_HOME with a cluster that is stopped, to be copied."""
    home = short_folder / "made"
    start_embedded(home, None)
    embedded.stop(home)
    return home


@pytest.fixture
def home(folder: Path, made_home: Path) -> Iterator[Path]:
    """A REFNET_HOME with a cluster that does not run yet; its server is stopped at the end."""
    subprocess.run(["/bin/cp", "-a", made_home, folder / "home"], check=True)
    yield folder / "home"
    embedded.remove(folder / "home")
