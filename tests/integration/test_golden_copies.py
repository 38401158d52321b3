"""Remote copies of each format: listed, read and compared by every later version."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.test_golden import GOLDEN
from tests.integration.test_golden import NAMES as OF_VERSIONS
from tests.remote_store import delete, objects

from refnet.catalog.artifact import OpenArtifact, silent
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Level
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.store import settings_copies
from refnet.store.buckets.folder import FolderBucket
from refnet.store.copy_checks import fetch_back
from refnet.store.keys import GivenKeys, Opener, parse_keys
from refnet.store.open_artifacts import artifact_at
from refnet.store.remote import RemoteStore
from refnet.store.remote_manifests import Trust

NAMES = OF_VERSIONS["backups"]
#: The copies in each store in the order of their counters: the artifact, and that of `backups` with the same bytes.
COPIES = {
    "remote": [(NAMES[one], NAMES[one]) for one in ("obsidian", "database", "config")],
    "remote2": [
        (NAMES["obsidian"], NAMES["obsidian"]),
        ("vault_20261127.tar.gz", NAMES["obsidian"]),
        (NAMES["database"], NAMES["database"]),
        (NAMES["config"], NAMES["config"]),
    ],
}


def _keys(folder: str) -> GivenKeys:
    return parse_keys((GOLDEN / folder / "recovery-key").read_bytes(), "the recovery key")


def _store(copies: Path, home: Path, *folders: str) -> RemoteStore:
    """The store as a new machine opens it, with what is on the recovery pages."""
    given = [_keys(one) for one in folders]
    keys = tuple(key for one in given for key in one.keys)
    trust = Trust(Opener(None, keys), frozenset(signer for one in given for signer in one.signers))
    return RemoteStore("golden", FolderBucket(copies), home, trust)


@pytest.fixture(params=COPIES)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path, folder: str) -> RemoteStore:
    return _store(GOLDEN / folder / "copies", tmp_path / "home", folder)


@pytest.fixture
def both(tmp_path: Path) -> RemoteStore:
    """A store with everything in the others."""
    for one in COPIES:
        shutil.copytree(GOLDEN / one / "copies", tmp_path / "copies", dirs_exist_ok=True)
    for one in (tmp_path / "copies", *(tmp_path / "copies").rglob("*")):
        one.chmod(0o700 if one.is_dir() else 0o600)
    return _store(tmp_path / "copies", tmp_path / "home", *COPIES)


def _in_order(store: RemoteStore) -> list[Copy]:
    return sorted(store.entries(), key=lambda one: (bool(one.document.key), one.document.counter))


def _local(source: SourceName, of: str) -> OpenArtifact:
    """The artifact that was sent."""
    return artifact_at(GOLDEN / "backups" / source / of, source)


def test_every_copy_is_listed_and_nothing_else(store: RemoteStore, folder: str) -> None:
    contents = store.contents()
    assert [one.name for one in _in_order(store)] == [name for name, _ in COPIES[folder]]
    assert (contents.unlisted, contents.gaps, store.leftovers()) == ((), (), ())
    assert [one.document.counter for one in _in_order(store)] == [*range(1, len(COPIES[folder]) + 1)]
    assert {one.state for one in contents.copies} == {"sent"}
    assert {bool(one.document.key) for one in contents.copies} == {folder == "remote2"}


def _compare(store: RemoteStore, copy: Copy, of: str) -> None:
    """Read a copy, and compare it with the artifact `of`."""
    local, opened = _local(copy.source, of), store.artifact(copy)
    with opened.open() as there, local.open() as here:
        assert there.read() == here.read()
    assert opened.files() == local.files()
    assert opened.manifest
    assert local.manifest
    same = {"name": local.manifest.name, "created": local.manifest.created}
    assert replace(opened.manifest, **same) == local.manifest
    assert [line.level for line in copy.document.evidence] == [Level.PROVEN]


def test_each_copy_is_what_was_sent(store: RemoteStore, folder: str) -> None:
    for copy, (_, of) in zip(_in_order(store), COPIES[folder], strict=True):
        _compare(store, copy, of)


def test_the_second_copy_of_the_same_bytes_has_no_piece_of_its_own(tmp_path: Path) -> None:
    first, second, *_ = _in_order(_store(GOLDEN / "remote2" / "copies", tmp_path, "remote2"))
    assert first.document.pieces == second.document.pieces
    assert first.document.ranges == second.document.ranges


def test_the_settings_come_with_the_copies(tmp_path: Path) -> None:
    store = _store(GOLDEN / "remote2" / "copies", tmp_path, "remote2")
    found = settings_copies.newest_sent(store, datetime.now(UTC), set(store.trust.signers))
    assert found
    assert "[stores.golden]" in found.text


def test_marks_and_lineage_come_with_the_settings_and_older_ones_have_none(tmp_path: Path) -> None:
    store = _store(GOLDEN / "settings" / "copies", tmp_path, "settings")
    found = settings_copies.newest_sent(store, datetime.now(UTC), set(store.trust.signers))
    assert found
    [marked], [library] = found.marks, found.lineage
    assert marked.marks == Marks(
        True, datetime.fromisoformat("2040-01-01 23:59:59.999999+00:00"), ("first", "golden")
    )
    assert (library.database, library.before) == ("library", ("7400000000000000001",))
    older = _store(GOLDEN / "remote2" / "copies", tmp_path, "remote2")
    old = settings_copies.newest_sent(older, datetime.now(UTC), set(older.trust.signers))
    assert old
    assert (old.marks, old.lineage) == ((), ())


def test_a_store_with_both_formats_is_listed_read_and_read_back(both: RemoteStore) -> None:
    expected = [pair for pairs in COPIES.values() for pair in pairs]
    contents = both.contents()
    assert [one.name for one in _in_order(both)] == [name for name, _ in expected]
    assert (contents.unlisted, contents.gaps, both.leftovers()) == ((), (), ())
    for copy, (_, of) in zip(_in_order(both), expected, strict=True):
        _compare(both, copy, of)
        assert fetch_back(both, copy, lambda: datetime.now(UTC), silent).state == "fetched"


def test_a_store_with_both_formats_is_pruned_one_by_one(both: RemoteStore) -> None:
    left = [
        (copy, of)
        for copy, (_, of) in zip(_in_order(both), [*COPIES["remote"], *COPIES["remote2"]], strict=True)
    ]
    while left:
        copy, _ = left.pop(len(left) // 2)
        delete(both, copy)
        assert {one.id for one in both.entries()} == {one.id for one, _ in left}
        for one, of in left:
            _compare(both, one, of)
    assert [name for name in objects(both.bucket) if "settings/" not in name] == []


def test_a_key_opens_the_copies_of_its_machine_alone(both: RemoteStore, tmp_path: Path) -> None:
    assert isinstance(both.bucket, FolderBucket)
    for folder, other in (("remote", "remote2"), ("remote2", "remote")):
        store = _store(both.bucket.root, tmp_path / folder, folder)
        assert [one.name for one in _in_order(store)] == [name for name, _ in COPIES[folder]]
        assert len(store.contents().unlisted) == len(COPIES[other])
