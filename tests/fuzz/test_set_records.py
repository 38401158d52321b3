"""Marks and lineage that travel with a set: whatever a store or a file has, it is read or refused."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.catalog.evidence import Marks, MarksOf, RecoveredMarks, is_tag
from refnet.catalog.identity import Identity
from refnet.store.settings_copies import SettingsCopy
from refnet.store.source_records import Continued, KeptMarks, Lineage

AT = datetime(2026, 11, 25, 17, tzinfo=UTC)
MARKS = (
    MarksOf("ab" * 32, "vault_20261126.tar.gz", True, AT, ("good", "old")),
    MarksOf("cd" * 32, "x.sql.gz"),
)
SHOP = Continued("shop", "2", ("0", "1"))
SENT = SettingsCopy("jobs = 1", "/etc/refnet/refnet.toml", AT, MARKS, (SHOP,)).to_line()
KEPT = RecoveredMarks(MARKS).to_json()
RECORD = json.dumps({"format": 1, **SHOP.values()})


@fuzzed
@given(documents(json.loads(SENT), SENT))
def test_what_came_with_the_settings_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: SettingsCopy.from_json(text), ValueError)
    for one in found.marks if found else ():
        assert len(one.sha256) == 64
        assert isinstance(one.marks, Marks)
        assert all(map(is_tag, one.marks.tags))
    for continued in found.lineage if found else ():
        assert continued.system.isdecimal()
    if found:
        assert SettingsCopy.from_json(found.to_line()) == found


@fuzzed
@given(documents(json.loads(KEPT), KEPT.encode()))
def test_kept_marks_are_read_or_there_are_none(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = KeptMarks(Path(folder) / "marks.json")
        kept.file.write_bytes(text)
        found = outcome(kept.read)
        assert isinstance(found, tuple)
        kept.keep(MARKS)
        assert {one.sha256 for one in kept.read()} >= {one.sha256 for one in MARKS}


@fuzzed
@given(documents(json.loads(RECORD), RECORD.encode()))
def test_a_lineage_is_read_or_left_out(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lineage = Lineage(Path(folder))
        lineage._write(SHOP)
        [path] = Path(folder).iterdir()
        path.write_bytes(text)
        found = outcome(lineage.all)
        assert isinstance(found, tuple)
        assert all(one.identity == SHOP.identity for one in found), "under its own name alone"
        lineage.keep(SHOP)
        assert lineage.before(Identity("shop", "2")) in {SHOP.before, *(one.before for one in found)}
