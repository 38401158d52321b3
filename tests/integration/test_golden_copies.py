"""Remote copies of format 1: listed, read and compared by every later version."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.test_golden import GOLDEN
from tests.integration.test_golden import NAMES as OF_VERSIONS

from refnet.catalog.manifest import Level
from refnet.catalog.remote import Copy
from refnet.store.buckets.folder import FolderBucket
from refnet.store.keys import Opener, parse_keys
from refnet.store.open_artifacts import artifact_at
from refnet.store.remote import RemoteStore
from refnet.store.remote_manifests import Trust

COPIES, NAMES = GOLDEN / "remote", OF_VERSIONS["backups"]


@pytest.fixture
def store(tmp_path: Path) -> RemoteStore:
    """The store as a new machine opens it, with what is on the recovery page."""
    given = parse_keys((COPIES / "recovery-key").read_bytes(), "the recovery key")
    trust = Trust(Opener(None, given.keys), frozenset(given.signers))
    return RemoteStore("golden", FolderBucket(COPIES / "copies"), tmp_path / "home", trust)


def test_every_copy_is_listed_and_nothing_else(store: RemoteStore) -> None:
    contents = store.contents()
    assert {one.name for one in contents.copies} == {*NAMES.values()}
    assert (contents.unlisted, contents.gaps, store.leftovers()) == ((), (), ())
    assert [one.document.counter for one in contents.copies] == [1, 2, 3]
    assert [one.state for one in contents.copies] == ["sent"] * 3


@pytest.mark.parametrize("source", NAMES)
def test_a_copy_is_what_was_sent(store: RemoteStore, source: str) -> None:
    [copy] = (one for one in store.entries() if one.source == source)
    assert isinstance(copy, Copy)
    local = artifact_at(GOLDEN / "backups" / source / NAMES[source], copy.source)
    opened = store.artifact(copy)
    with opened.open() as there, local.open() as here:
        assert there.read() == here.read()
    assert opened.manifest == local.manifest
    assert opened.files() == local.files()
    assert [line.level for line in copy.document.evidence] == [Level.PROVEN]
