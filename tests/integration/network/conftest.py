"""A database for a network, and real data, where this machine has it beside the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network.crawling import network
from tests.shared_data import shared

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


@pytest.fixture(scope="module")
def migrated(server: Cluster) -> Iterator[Target]:
    """A migrated database for all tests of a file."""
    with network(server) as found:
        yield found


@pytest.fixture
def target(server: Cluster) -> Iterator[Target]:
    """A migrated database for one test."""
    with network(server) as found:
        yield found


@pytest.fixture
def cora_cites() -> Path:
    return shared("cora/cora.cites")
