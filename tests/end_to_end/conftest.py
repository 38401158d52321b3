"""Stories of several commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests import forked


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which a demo and its commands start in a few milliseconds."""
    with forked.module(tmp_path_factory.mktemp("module")) as variables:
        yield variables
