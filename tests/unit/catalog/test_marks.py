"""The marks of an artifact: what they say, and what a damaged file of them means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from refnet.catalog.evidence import MARKS_BYTES, MOST_TAGS, Marks, is_tag

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
FILE = {"format": 1, "pinned": True, "until": None, "tags": ["a"]}


@pytest.mark.parametrize(
    "marks", [Marks(pinned=True), Marks(pinned=True, until=NOW, tags=("a", "b")), Marks(tags=("x.y_z-1",))]
)
def test_marks_come_back_as_they_were_written(marks: Marks) -> None:
    assert Marks.from_file(marks.to_file()) == marks


def test_an_artifact_without_marks_needs_no_file() -> None:
    assert Marks().to_file() == b""
    assert Marks().pin(NOW) == ""
    assert Marks().describe(NOW) == []


def test_a_pin_lasts_until_its_last_moment() -> None:
    marks = Marks(pinned=True, until=NOW)

    assert marks.pin(NOW, UTC) == "pinned until 2026-11-25 04:00:00 UTC"
    assert marks.pin(NOW + timedelta(seconds=1)) == ""
    assert Marks(pinned=True).pin(NOW + timedelta(days=9999)) == "pinned"


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 2},
        {"format": True},
        {"pinned": 1},
        {"pinned": None},
        {"until": "tomorrow"},
        {"until": "2026-11-25T04:00:00"},
        {"tags": "a"},
        {"tags": ["../a"]},
        {"tags": ["\x1b[2J"]},
        {"tags": ["a"] * (MOST_TAGS + 1)},
        {"more": 1},
    ],
)
def test_a_file_that_is_not_exactly_of_marks_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        Marks.from_file(json.dumps(FILE | wrong).encode())
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"a":' * 9999, b" " * (MARKS_BYTES + 1)])
def test_what_is_no_file_of_marks_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Marks.from_file(text)


def test_marks_that_cannot_be_read_are_a_pin() -> None:
    marks = Marks(unreadable="not JSON")

    assert marks.pin(NOW) == "pinned, could not verify: its marks cannot be read: not JSON"
    assert marks.to_json()["pinned"] is True


@pytest.mark.parametrize(("text", "fits"), [("a", True), ("v1.2_b-C", True), ("a" * 40, True), ("a" * 41, False),
    ("", False), ("-a", False), ("a b", False), ("é", False), ("a\n", False)])  # fmt: skip
def test_a_tag_is_one_short_word(text: str, fits: bool) -> None:
    assert is_tag(text) is fits
