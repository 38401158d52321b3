"""Everything, built once a server; a service that listens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.everything import ODD_NAME, Everything, build
from tests.integration.listening import Service, listening

from refnet.postgres.cluster import Cluster


@pytest.fixture(scope="session")
def everything(server: Cluster) -> Everything:
    """Everything on the wheel's PostgreSQL, in a database with an odd name."""
    return build(server, ODD_NAME)


@pytest.fixture(scope="session")
def system_everything(system_server: Cluster) -> Everything:
    """Everything on the system's PostgreSQL."""
    return build(system_server, "everything")


@pytest.fixture(params=["everything", "system_everything"], ids=["wheel", "system"])
def each_everything(request: pytest.FixtureRequest) -> Everything:
    """Everything, once on each PostgreSQL that is here."""
    found: Everything = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def service() -> Iterator[Service]:
    """What takes pings and messages."""
    with listening() as found:
        yield found
