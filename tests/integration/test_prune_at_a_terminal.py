"""`refnet prune` at a terminal, where the artifacts of many days of one source are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.command import Command, Result
from tests.integration.at_terminal import answered
from tests.unit.actions.test_prune import make

from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore


@pytest.fixture
def refnet(tmp_path: Path) -> Command:
    """Two artifacts of the configuration, and six of the vault, of a day each."""
    found = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_SCHEDULE_DATABASE": "off"})
    store, now = LocalStore(found.backups), datetime.now(UTC)
    for source, count in ((SourceName.CONFIG, 2), (SourceName.OBSIDIAN, 6)):
        for days in range(count):
            make(store, now - timedelta(days=100 + days), source=source)
    return found


def prune(refnet: Command, answer: str) -> Result:
    few = {"REFNET_RETENTION_CONFIG": "days=1", "REFNET_RETENTION_OBSIDIAN": "days=1"}
    return answered(refnet, "prune", answer=answer, **few)


def test_a_user_who_says_no_sees_what_was_deleted_of_other_sources(refnet: Command) -> None:
    done = prune(refnet, "n")

    assert done.code == 6
    assert "prune would delete 5 artifacts of obsidian" in done.err
    assert "Nothing was changed" not in done.err
    assert "deleted 1 (" in done.out
    assert "kept 1 artifact in" in done.out


def test_a_user_who_says_yes_sees_each_artifact_once(refnet: Command) -> None:
    done = prune(refnet, "y")

    assert done.code == 0, done.err
    assert "deleted 6 (" in done.out
    assert "kept 2 artifacts in" in done.out
