"""The list of files of an unchanged folder goes from one artifact to the next as it is stored, checked in pieces."""

from __future__ import annotations

import gzip
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.manifest import FILES_SUFFIX
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 1, tzinfo=UTC)
LIST = b'{"a list": "of files"}\n' * 200_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def last(store: LocalStore) -> OpenArtifact:
    with store.draft(SourceName.OBSIDIAN) as draft:
        draft.out.write(b"the vault")
        draft.publish(Made(NOW, {"files": 200_000, "folders": 1, "links": 0}, files=LIST), NOW, 1.0)
    return store.artifact(store.entries()[0])


def test_the_next_artifact_has_the_same_list(store, last):
    details = {**last.manifest.details, "shares_bytes_with": last.name}
    with store.draft(SourceName.OBSIDIAN) as draft:
        made = draft.publish(Made(NOW, details, packed_files=last.packed_files()), NOW, 1.0)

    again = store.artifact(next(entry for entry in store.entries() if entry.name == made.name))
    assert made.files_sha256 == last.manifest.files_sha256
    assert again.files() == last.files() == LIST
    assert again.packed_files() == last.packed_files()


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed + gzip.compress(b"more"),
        lambda _: gzip.compress(LIST[:-1]),
        lambda _: gzip.compress(LIST + LIST),
        lambda _: gzip.compress(bytes(1 << 26)),
        lambda _: zlib.compress(LIST),
        lambda _: b"",
    ],
    ids=["cut", "a byte more", "a member more", "shorter", "longer", "a bomb", "not gzip", "empty"],
)
def test_a_damaged_list_is_not_passed_on(store, last, damage):
    path = store.folder(SourceName.OBSIDIAN) / f"{last.name}{FILES_SUFFIX}"
    path.write_bytes(damage(path.read_bytes()))

    for read in (last.packed_files, last.files):
        with pytest.raises(RefnetError, match="does not match the manifest") as caught:
            read()
        assert caught.value.code is Exit.DAMAGED
