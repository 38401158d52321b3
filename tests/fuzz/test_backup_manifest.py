"""PostgreSQL's manifest in a base backup, the index beside it, and the facts in RefNet's own manifest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.catalog.cluster_base import BaseFacts
from refnet.sources.cluster.backup_manifest import BackupManifest
from refnet.sources.cluster.base_index import BaseIndex

FILE = {"Size": 8192, "Last-Modified": "2026-11-22 12:00:00 GMT", "Checksum-Algorithm": "SHA256"}
DOCUMENT: dict[str, Any] = {
    "PostgreSQL-Backup-Manifest-Version": 2,
    "System-Identifier": 7443,
    "Files": [
        {"Path": "base/1/1259", **FILE, "Checksum": "0" * 64},
        {"Encoded-Path": "ff", **FILE, "Checksum": "1" * 64},
    ],
    "WAL-Ranges": [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120"}],
}
INDEX = {"format": 1, "manifest": [512, 100], "members": [[0, 0], [1000, 20], [2000, 50]]}
FACTS = {
    "system_identifier": "7443",
    "server_version": "17.7",
    "base": "increment",
    "parent": "a.base.tar.gz",
    "start_lsn": "0/2000028",
    "end_lsn": "0/2000120",
    "timeline": 1,
    "raw_bytes": 100,
    "tablespaces": 0,
}


def _signed(document: bytes) -> bytes:
    """`document` with its checksum at the end, as PostgreSQL writes it."""
    text = document.rstrip()[:-1] + b",\n"
    return text + b'"Manifest-Checksum": "%b"}\n' % hashlib.sha256(text).hexdigest().encode()


def test_a_manifest_of_postgresql_is_read() -> None:
    found = BackupManifest.read(_signed(json.dumps(DOCUMENT).encode()))
    assert list(found.files) == ["base/1/1259", "\udcff"]
    assert (found.system_identifier, found.timeline, found.start_lsn) == ("7443", 1, 0x2000028)


@fuzzed
@given(documents(DOCUMENT, json.dumps(DOCUMENT).encode()))
def test_a_manifest_of_postgresql_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: BackupManifest.read(_signed(text)), ValueError)
    if found:
        assert found.start_lsn <= found.end_lsn
        assert not any(path.startswith("/") or ".." in path.split("/") for path in found.files)


@fuzzed
@given(st.binary(max_size=400))
def test_any_bytes_are_no_manifest(text: bytes) -> None:
    assert outcome(lambda: BackupManifest.read(text), ValueError) is None


@fuzzed
@given(documents(INDEX, json.dumps(INDEX).encode()), st.integers(0, 1 << 64))
def test_an_index_is_read_or_refused(text: bytes, at: int) -> None:
    if found := outcome(lambda: BaseIndex.read(text), ValueError):
        assert found.member_at(at) in found.members


@fuzzed
@given(documents(FACTS, json.dumps(FACTS).encode()))
def test_details_are_facts_or_none(text: bytes) -> None:
    try:
        details = json.loads(text)
    except ValueError:
        return
    if isinstance(details, dict) and (found := outcome(lambda: BaseFacts.read(details))):
        assert found.start_lsn <= found.end_lsn
        assert bool(found.parent) is not found.of_full
