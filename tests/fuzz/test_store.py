"""A backup folder whose manifest, evidence and list of files are what they should not be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import LONGEST, assert_told, fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, lines
from tests.fuzz.test_files import TEXT
from tests.fuzz.test_manifest import LINE, MANIFEST

from refnet.catalog.evidence import Marks, is_tag
from refnet.catalog.manifest import (
    EVIDENCE_SUFFIX,
    FILES_SUFFIX,
    MANIFEST_SUFFIX,
    MARKS_SUFFIX,
    Entry,
    Level,
    Manifest,
)
from refnet.catalog.retention import decide
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.core.member_names import ArchiveError
from refnet.sources.folder.listing import FileList
from refnet.store import backup_folder
from refnet.store.local import LocalStore
from refnet.store.open_artifacts import artifact_at

NAME = "refnet_20261125_170001.sql.gz"
DATA = b"SELECT 1"
VALUES = json.loads(MANIFEST) | {"size": len(DATA)}
MARKS = {"format": 1, "pinned": True, "until": "2026-12-31T23:59:59+09:00", "tags": ["before-upgrade", "x"]}
MARKER = {"format": 1, "id": "0123456789abcdef" * 2}
FSTAB = (
    b"# remark\nUUID=1 / ext4 defaults 0 1\n/dev/sdb /srv/my\\040disk ext4 defaults 0 2\nproc /proc proc\n"
)
PACKED = gzip.compress(TEXT, 1, mtime=0)


@fuzzed
@given(
    manifest=documents(VALUES),
    hidden=st.one_of(st.just(b""), documents(VALUES)),
    evidence=st.one_of(st.just(b""), lines([LINE, LINE])),
    marks=st.one_of(st.just(b""), documents(MARKS)),
)
def test_a_folder_is_listed_whatever_its_manifests_and_evidence_say(
    manifest: bytes, hidden: bytes, evidence: bytes, marks: bytes, folder: Path
) -> None:
    (folder / NAME).write_bytes(DATA)
    (folder / f"{NAME}{MANIFEST_SUFFIX}").write_bytes(manifest)
    (folder / f"{NAME}{EVIDENCE_SUFFIX}").write_bytes(evidence)
    (folder / f"{NAME}{MARKS_SUFFIX}").write_bytes(marks)
    (folder / f".refnet-0123456789abcdef{MANIFEST_SUFFIX}").write_bytes(hidden)
    store = LocalStore(folder, flat=True)
    entries = outcome(store.entries)
    assert entries is not None
    for entry in entries:
        assert entry.name == NAME
        assert entry.level in Level
        assert_marked(entry.marks, marks)
    looks: tuple[Callable[[], object], ...] = (store.leftovers, store.unlisted, store.contents)
    for look in looks:
        assert outcome(look) is not None


def assert_marked(marks: Marks, text: bytes) -> None:
    """What a file of marks says is valid, or it keeps the artifact."""
    now = datetime(2026, 11, 25, 18, tzinfo=UTC)
    if marks.unreadable:
        assert_told(marks.unreadable, LONGEST)
        assert marks.pin(now)
    else:
        assert all(map(is_tag, marks.tags))
        assert Marks.from_file(marks.to_file() or Marks(tags=("a",)).to_file())
        assert json.loads(text)["pinned"] is marks.pinned
    for note in marks.describe(now):
        assert_told(note, LONGEST)


@fuzzed
@given(manifest=documents(VALUES), packed=st.one_of(st.just(PACKED), damaged(PACKED)))
def test_an_artifact_at_a_path_is_read_or_refused(manifest: bytes, packed: bytes, folder: Path) -> None:
    (folder / NAME).write_bytes(DATA)
    (folder / f"{NAME}{MANIFEST_SUFFIX}").write_bytes(manifest)
    (folder / f"{NAME}{FILES_SUFFIX}").write_bytes(packed)
    held = outcome(lambda: artifact_at(folder / NAME, SourceName.OBSIDIAN))
    if held:
        text = outcome(held.files)
        if text is not None:
            outcome(lambda: FileList.from_json(text), ArchiveError)


@fuzzed
@given(st.lists(documents(VALUES), min_size=1, max_size=3))
def test_what_a_manifest_says_leaves_retention_a_decision(texts: list[bytes]) -> None:
    found = [outcome(lambda text=text: Manifest.from_json(text), ValueError) for text in texts]  # type: ignore[misc]
    entries = [Entry(manifest) for manifest in found if manifest]
    now = datetime(2026, 11, 25, 18, tzinfo=UTC)
    decided = outcome(lambda: decide(entries, Retention(1, 1, 1, 1, 1), now, None))
    assert decided is not None
    assert len(decided) == len(entries)


@fuzzed
@given(
    marker=st.one_of(documents(MARKER), st.none()),
    known=st.one_of(documents(MARKER), st.none()),
    table=st.one_of(damaged(FSTAB), st.just(FSTAB)),
)
def test_a_store_is_the_one_that_it_was_or_trouble(
    marker: bytes | None, known: bytes | None, table: bytes, folder: Path
) -> None:
    root, home, fstab = folder / "backups", folder / "home", folder / "fstab"
    root.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    fstab.write_bytes(table)
    remembered = backup_folder.Remembered(home)
    for path, text in ((root / backup_folder.MARKER, marker), (remembered._file(root), known)):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text)
    trouble = outcome(lambda: backup_folder.trouble(root, remembered, fstab))
    if trouble:
        assert str(root) in trouble.message
