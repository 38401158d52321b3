"""Positions, segments and timelines, held against what PostgreSQL's pg_walfile_name and its documents say."""

from __future__ import annotations

import pytest

from refnet.catalog import wal
from refnet.catalog.wal import (
    Fork,
    Gap,
    gaps,
    lsn_text,
    needed,
    parse_lsn,
    read_history,
    segment_of,
    start_of,
)

MIB = 1 << 20


@pytest.mark.parametrize("text", ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
def test_a_position_is_read_and_written_as_postgresql_does(text: str) -> None:
    assert lsn_text(parse_lsn(text)) == text


@pytest.mark.parametrize(
    "text", ["", "0", "/0", "0/", "1/2/3", "0x1/2", "123456789/0", "-1/0", "1/ 2", "١/0"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_lsn(text)


@pytest.mark.parametrize(
    ("lsn", "timeline", "size", "name"),
    [  # SELECT pg_walfile_name(…) of clusters with these segments
        ("0/1000000", 1, 16 * MIB, "000000010000000000000001"),
        ("1/2FFFFFF", 3, 16 * MIB, "000000030000000100000002"),
        ("0/62A250", 1, MIB, "000000010000000000000006"),
        ("2/FFFFFFFF", 1, MIB, "000000010000000200000FFF"),
        ("5/40000000", 1, 1024 * MIB, "000000010000000500000001"),
    ],
)
def test_a_position_is_in_the_segment_that_postgresql_names(
    lsn: str, timeline: int, size: int, name: str
) -> None:
    found = segment_of(parse_lsn(lsn), timeline, size)
    assert found == name
    assert start_of(found, size) <= parse_lsn(lsn) < start_of(found, size) + size
    assert wal.timeline_of(found) == timeline


def test_a_name_whose_last_part_is_too_large_is_no_segment() -> None:
    with pytest.raises(ValueError, match="not the name of a segment"):
        start_of("000000010000000000000100", 16 * MIB)


def test_a_history_is_read_oldest_first() -> None:
    text = '1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tat restore point "x"\n'
    assert read_history(text) == (Fork(1, 0x3000148), Fork(2, 0x5000000))


@pytest.mark.parametrize(
    "text", ["1", "x\t0/1", "2\t0/5\tx\n1\t0/6\tx", "1\t0/5\tx\n2\t0/4\tx", "0\t0/1", "1\tzz"]
)
def test_a_history_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"history|position"):
        read_history(text)


def test_a_recovery_needs_the_segment_of_a_fork_from_the_newer_timeline() -> None:
    history = (Fork(1, 0x3000148), Fork(2, 0x5000000))
    wanted = needed(0x2000028, 0x6000000, 3, history, 16 * MIB)
    assert [*wanted] == [
        "000000010000000000000002",
        "000000020000000000000003",
        "000000020000000000000004",
        "000000030000000000000005",
    ]


def test_neighbours_that_are_missing_are_one_gap() -> None:
    wanted = [*needed(0, 6 * MIB, 1, (), MIB)]
    there = {wanted[0], wanted[3]}
    assert [*gaps(wanted, there)] == [Gap(wanted[1], wanted[2], 2), Gap(wanted[4], wanted[5], 2)]
    assert str(Gap(wanted[1], wanted[1], 1)) == wanted[1]
