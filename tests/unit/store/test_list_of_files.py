"""The list of files beside an artifact: one gzip member of a known size at most, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from refnet.catalog.manifest import FILES_SUFFIX, Manifest
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.store.open_artifacts import artifact_in, listed_beside

NAME = "vault_20261125.tar.gz"
#: Longer than what is inflated at once.
TEXT = b"0123456789abcdef" * (3 << 16) + b"end"


def packed(folder: Path, data: bytes) -> bytes | None:
    (folder / f"{NAME}{FILES_SUFFIX}").write_bytes(data)
    return listed_beside(folder / NAME)


@pytest.mark.parametrize("text", [b"", b"x", TEXT], ids=["empty", "short", "long"])
def test_a_complete_member_is_read(tmp_path, text):
    assert packed(tmp_path, gzip.compress(text)) == text


@pytest.mark.parametrize(
    "harm",
    [
        lambda one: one[:-1],
        lambda one: one[: len(one) // 2],
        lambda one: one + b"x",
        lambda one: one + one,
        lambda one: one + bytes(3 << 20),
        lambda one: one[:-8] + bytes(8),
        lambda _: b"",
    ],
    ids=["cut", "half", "a byte more", "twice", "megabytes more", "another checksum", "nothing"],
)
def test_anything_else_is_not_read(tmp_path, harm):
    assert packed(tmp_path, harm(gzip.compress(TEXT))) is None


def test_a_list_that_inflates_beyond_its_limit_is_damage(tmp_path):
    digest, created = hashlib.sha256(bytes(64 << 20)).hexdigest(), datetime(2026, 11, 25, tzinfo=UTC)
    details = {"files": 1, "folders": 0, "links": 0}
    manifest = Manifest(
        SourceName.OBSIDIAN, NAME, created, 10, "0" * 64, 1.0, files_sha256=digest, details=details
    )
    (tmp_path / f"{NAME}{FILES_SUFFIX}").write_bytes(gzip.compress(bytes(64 << 20)))

    with pytest.raises(RefnetError) as raised:
        artifact_in(SourceName.OBSIDIAN, tmp_path / NAME, manifest).files()
    assert raised.value.code is Exit.DAMAGED


def test_a_list_of_files_is_written_with_little_more_memory_than_it_takes() -> None:
    files = tuple(
        Listed(f"notes/{number}.md", FileKind.FILE, 9, 0o644, 1, 0, 0, 1024, "a" * 64)
        for number in range(5_000)
    )
    tracemalloc.start()
    text = FileList((Listed("notes", FileKind.FOLDER, 0, 0o755, 1, 0, 0, 0), *files)).to_json()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * len(text)
