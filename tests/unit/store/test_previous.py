"""Records of previous versions: written privately, read strictly, believed only where nobody else could write them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from refnet.core.errors import RefnetError
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousRecord, PreviousVersions

MARK = DatabaseMark(
    "shop",
    MarkState.RESTORED,
    datetime(2026, 11, 25, 2, tzinfo=UTC),
    "refnet.sql.gz",
    "10:20:11,14",
    "it's",
    7,
)
RECORD = PreviousRecord("7412", "shop_before_20261125_020000", 16400, "app", 16500, MARK)


def test_records_come_back_as_they_were_written_and_are_private(tmp_path: Path) -> None:
    previous = PreviousVersions(tmp_path / "home" / "previous")
    assert previous.read().records == ()
    other = replace(RECORD, oid=16401, system=None, mark=replace(MARK, comment=None))
    for record in (RECORD, other, RECORD):
        previous.add(record)
    assert set(previous.read().records) == {RECORD, other}
    assert [path.stat().st_mode & 0o777 for path in previous.folder.iterdir()] == [0o600, 0o600]
    assert previous.folder.stat().st_mode & 0o777 == 0o700
    previous.forget(other)
    previous.forget(other)
    assert previous.read().records == (RECORD,)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"oid": 0},
        {"oid": True},
        {"oid": "16400"},
        {"oid": 1 << 32},
        {"live": None},
        {"owner": ""},
        {"name": "x" * 300},
        {"name": "a\0b"},
        {"of": "\ud800"},
        {"why": "because"},
        {"at": "2026-11-25T02:00:00"},
        {"at": "soon"},
        {"snapshot": "1:2:'; DROP"},
        {"comment": 5},
        {"limit": -2},
        {"limit": 1.0},
        {"system": "7412; --"},
    ],
    ids=str,
)
def test_a_record_with_a_value_that_refnet_does_not_write_is_none(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    previous = PreviousVersions(tmp_path / "previous")
    previous.add(RECORD)
    (path,) = previous.folder.iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    known = previous.read()
    assert known.records == ()
    assert str(path) in known.unreadable[0]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 200_000, b"7", b" " * (2 << 20)], ids=len)
def test_a_record_that_is_no_object_is_none(tmp_path: Path, content: bytes) -> None:
    previous = PreviousVersions(tmp_path / "previous")
    previous.add(RECORD)
    (path,) = previous.folder.iterdir()
    path.write_bytes(content)
    assert (previous.read().records, len(previous.read().unreadable)) == ((), 1)


def test_a_record_that_others_can_write_or_that_is_a_link_is_not_believed(tmp_path: Path) -> None:
    previous = PreviousVersions(tmp_path / "previous")
    previous.add(RECORD)
    (path,) = previous.folder.iterdir()
    path.chmod(0o622)
    assert previous.read().records == ()
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert (previous.read().records, len(previous.read().unreadable)) == ((), 1)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    previous = PreviousVersions(tmp_path / "previous")
    previous.add(RECORD)
    previous.folder.chmod(0o777)
    for act in (previous.read, lambda: previous.add(RECORD)):
        with pytest.raises(RefnetError, match="only this user can write"):
            act()
    previous.folder.chmod(0o700)
    previous.folder.rename(tmp_path / "moved")
    previous.folder.symlink_to(tmp_path / "moved")
    with pytest.raises(RefnetError, match="only this user can write"):
        previous.read()
