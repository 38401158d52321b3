"""The archive of WAL is read again, and compared with its index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.wal_segments import SERVER, SIZE, archive, put

from refnet.catalog.artifact import Finding
from refnet.catalog.cluster_base import BaseFacts, BaseKind, NeededWal
from refnet.catalog.manifest import Entry, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import SHARES, Gap, lsn_text, segment_of
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.sources.cluster.wal_archive import READING, REPORT, WalArchive
from refnet.sources.cluster.wal_offsite import new_in
from refnet.sources.cluster.wal_reading import WalReading

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
NAMES = [segment_of(number * SIZE, 1, SIZE) for number in range(5, 26)]
BASE = BaseFacts(SERVER.system_identifier, "17.1", BaseKind.FULL, "", 5 * SIZE + 40, 5 * SIZE + 400, 1, 5, 0)
CLUSTER = SourceName("main-cluster", Kind.CLUSTER)


def base(number: int, made: datetime = NOW) -> Entry:
    """A base backup whose WAL begins in the segment of that number."""
    facts = {
        "system_identifier": BASE.system_identifier,
        "server_version": "17.1",
        "base": "full",
        "timeline": 1,
    }
    facts |= {"start_lsn": lsn_text(number * SIZE + 40), "end_lsn": lsn_text(number * SIZE + 400)}
    details = {**facts, "raw_bytes": 5, "tablespaces": 0}
    return Entry(Manifest(CLUSTER, f"{number}.base.tar.gz", made, 1, "0" * 64, 1.0, details=details))


def flip(made: WalArchive, name: str) -> None:
    """Change one bit in the middle of a segment; its size stays."""
    path = made.folder_of(1) / f"{name}.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def read(made: WalArchive, *bases: int, share: bool = False, now: datetime = NOW, first: int = 5) -> Finding:
    begin = replace(BASE, start_lsn=first * SIZE + 40, end_lsn=first * SIZE + 400)
    needed = NeededWal(SERVER.system_identifier, begin, ())
    return WalReading(made, needed, [base(one) for one in (first, *bases)], now).read(share=share)


def test_an_archive_that_matches_its_index_is_said_to_with_its_first_and_last_segment(tmp_path: Path) -> None:
    found = read(archive(tmp_path, *NAMES))
    assert (found.outcome, found.reason) == (
        Outcome.PASSED,
        f"21 segments of timeline 1 from {NAMES[0]} to {NAMES[-1]}, all match",
    )


def test_a_flipped_bit_in_a_middle_segment_is_found_and_counts_as_a_gap_from_then_on(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[7])
    assert not made.gaps(5 * SIZE, 1)
    found = read(made)
    assert found.outcome is Outcome.FAILED
    assert found.reason.startswith(
        f"damaged, 1 of 21 segments: {NAMES[7]}; moments after the beginning of {NAMES[7]} cannot"
    )
    assert found.reason.endswith("; `refnet backup main-cluster` makes later ones reachable")
    assert made.gaps(5 * SIZE, 1) == (Gap(NAMES[7], NAMES[7], 1),)
    assert NAMES[7] not in made.present()


def test_a_newer_base_backup_bounds_what_is_lost(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[7])
    found = read(made, 20)
    assert found.outcome is Outcome.FAILED
    assert found.reason.endswith(" cannot be restored, later ones can")


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    for name in NAMES[3:6]:
        (made.folder_of(1) / f"{name}.gz").unlink()
    found = read(made)
    assert found.outcome is Outcome.FAILED
    assert f"missing: {NAMES[3]} to {NAMES[5]} (3 segments)" in found.reason


def test_a_gap_before_a_newer_base_backup_is_said_and_is_no_failure(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    (made.folder_of(1) / f"{NAMES[3]}.gz").unlink()
    found = read(made, 20)
    assert found.outcome is Outcome.PASSED
    assert f"missing: {NAMES[3]}" in found.reason


def test_what_no_base_backup_needs_is_not_read(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[1])
    found = read(made, first=10)
    assert (found.outcome, found.reason) == (
        Outcome.PASSED,
        f"16 segments of timeline 1 from {NAMES[5]} to {NAMES[-1]}, all match",
    )


def test_a_share_each_night_reads_every_segment_within_a_week(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[-1])
    nights = [read(made, share=True, now=NOW + timedelta(days=night)) for night in range(SHARES)]
    assert nights[0].reason == "3 of 21 segments read (share 1 of 7), all match"
    assert sorted(one.outcome for one in nights) == [Outcome.FAILED, *[Outcome.PASSED] * (SHARES - 1)]
    again = read(made, share=True, now=NOW + timedelta(days=SHARES))
    assert again.reason.startswith(
        "3 of 21 segments read (share 1 of 7), all match; each was read since 2026-12-01"
    )


def test_segments_that_arrive_and_go_meanwhile_do_not_let_others_go_unread(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES[:14])
    flip(made, NAMES[13])
    found = []
    for night in range(SHARES):  # as much arrives and is pruned in a night as is read
        found.append(read(made, share=True, first=5 + night, now=NOW + timedelta(days=night)).outcome)
        put(made, NAMES[14 + night])
    assert found.count(Outcome.FAILED) == 1


def test_a_segment_that_came_back_is_no_gap_any_more(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    whole = (made.folder_of(1) / f"{NAMES[7]}.gz").read_bytes()
    flip(made, NAMES[7])
    read(made)
    (made.folder_of(1) / f"{NAMES[7]}.gz").write_bytes(whole)
    assert read(made).outcome is Outcome.PASSED
    assert not made.gaps(5 * SIZE, 1)


def test_adding_the_segment_again_replaces_the_damaged_file(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[7])
    read(made)
    put(made, NAMES[7])
    assert not made.gaps(5 * SIZE, 1)
    assert read(made).outcome is Outcome.PASSED


def test_a_segment_that_is_known_to_be_damaged_is_not_sent_to_a_store(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    flip(made, NAMES[7])
    read(made)
    assert [one.name for one in new_in(made).segments] == [one for one in NAMES if one != NAMES[7]]


def test_a_segment_that_cannot_be_read_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    path = made.folder_of(1) / f"{NAMES[7]}.gz"
    size = path.stat().st_size
    path.unlink()
    path.symlink_to("x" * size)  # a link of that size
    found = read(made)
    assert found.outcome is Outcome.UNVERIFIED
    assert NAMES[7] in found.reason
    assert not made.gaps(5 * SIZE, 1)


def test_what_the_receiver_promised_does_not_count_if_its_last_segment_is_damaged(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    report = StreamReport(StreamState.STREAMING, NOW, 7, 1, 26 * SIZE, 26 * SIZE, NOW)
    (made.folder / REPORT).write_text(report.to_json())
    assert made.covered_until() == NOW
    flip(made, NAMES[-1])
    read(made)
    assert made.covered_until() is None


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"format": 9}', b'{"format": 1, "damaged": ["../x"]}'])
def test_a_malformed_record_of_the_last_reading_counts_for_nothing(tmp_path: Path, text: bytes) -> None:
    made = archive(tmp_path, *NAMES)
    (made.folder / READING).write_bytes(text)
    assert not made.gaps(5 * SIZE, 1)
    assert read(made, share=True).outcome is Outcome.PASSED


def test_of_a_share_without_segments_nothing_is_said(tmp_path: Path) -> None:
    made = archive(tmp_path, NAMES[0])  # number 5, and the first share has those like 0 and 7
    assert read(made, share=True).reason == ""


def test_a_segment_that_a_prune_deletes_meanwhile_is_not_damaged(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    seventh = made.folder_of(1) / f"{NAMES[2]}.gz"  # of the first share

    def prune(_step: str, _done: int, _total: int | None) -> None:
        seventh.unlink(missing_ok=True)

    needed = NeededWal(SERVER.system_identifier, BASE, ())
    reading = WalReading(made, needed, [base(5)], NOW, (), prune)
    reading.read(
        share=True
    )  # it is deleted after it was read; the next reading finds it in the list that it knows
    assert reading.read().outcome is Outcome.FAILED  # a gap, which is not damage
    assert not made.last_reading().damaged
