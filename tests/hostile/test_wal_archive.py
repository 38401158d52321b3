"""An archive of WAL that somebody damaged, replaced or forged: what it gives is right, or is refused."""

from __future__ import annotations

import gzip
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from isal import isal_zlib
from tests.wal_segments import SERVER, SIZE, archive, no_programs, put, segment

from refnet.catalog.wal import Gap, IndexLine, ServerFacts
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.core.errors import Exit, RefnetError
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.wal_archive import WalArchive

NAMES = [f"0000000100000000000000{number:02X}" for number in range(5, 9)]


def test_a_segment_comes_back_as_it_was(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    assert made.timelines() == (1,)
    assert [one.name for one in made.segments(1)] == NAMES
    assert made.read(NAMES[1]) == segment(NAMES[1])
    made.provide(NAMES[:2], tmp_path)
    assert (tmp_path / NAMES[0]).read_bytes() == segment(NAMES[0])
    assert gzip.decompress((made.folder_of(1) / f"{NAMES[1]}.gz").read_bytes()) == segment(NAMES[1])
    assert not made.gaps(5 * SIZE, 1)


def test_a_middle_segment_that_is_missing_is_a_gap_and_not_a_read(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    (made.folder_of(1) / f"{NAMES[1]}.gz").unlink()
    assert made.gaps(5 * SIZE, 1) == (Gap(NAMES[1], NAMES[1], 1),)
    with pytest.raises(RefnetError, match="missing") as caught:
        made.provide(NAMES, tmp_path)
    assert caught.value.code is Exit.DAMAGED


def test_a_segment_without_its_end_is_a_gap_where_another_one_follows(tmp_path: Path) -> None:
    """As after a slot was lost: a recovery would end within it."""
    made = archive(tmp_path, NAMES[0])
    put(made, f"{NAMES[1]}.partial")
    assert not made.gaps(5 * SIZE, 1)
    put(made, NAMES[2])
    assert made.gaps(5 * SIZE, 1) == (Gap(NAMES[1], NAMES[1], 1),)
    assert not made.gaps(5 * SIZE, 1, 7 * SIZE)  # a moment in it
    put(made, NAMES[1])
    assert not made.gaps(5 * SIZE, 1)


def test_what_is_received_is_a_gap_where_a_base_backup_fetched_later_wal(tmp_path: Path) -> None:
    made = archive(tmp_path, NAMES[0], NAMES[2])
    partial = made.live / f"{NAMES[1]}.partial"
    partial.write_bytes(segment(NAMES[1]))
    assert made.gaps(5 * SIZE, 1) == (Gap(NAMES[1], NAMES[1], 1),)
    partial.rename(made.live / NAMES[1])
    assert not made.gaps(5 * SIZE, 1)


def test_a_file_that_was_cut_is_a_gap(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    os.truncate(made.folder_of(1) / f"{NAMES[2]}.gz", 100)
    assert made.gaps(5 * SIZE, 1) == (Gap(NAMES[2], NAMES[2], 1),)


@pytest.mark.parametrize(
    "forged",
    [
        gzip.compress(segment(NAMES[1], b"other")),
        gzip.compress(b"\0" * (SIZE * 50)),
        b"no gzip",
        gzip.compress(segment(NAMES[1])) + b"more",
        gzip.compress(segment(NAMES[1])) + bytes(1 << 20),
        gzip.compress(segment(NAMES[1]))[:-9],
    ],
    ids=["another", "bomb", "no gzip", "more", "much more", "cut"],
)
def test_a_segment_that_differs_from_the_index_is_refused(tmp_path: Path, forged: bytes) -> None:
    made = archive(tmp_path, *NAMES)
    (made.folder_of(1) / f"{NAMES[1]}.gz").write_bytes(forged)
    with pytest.raises(RefnetError, match="damaged") as caught:
        made.read(NAMES[1])
    assert caught.value.code is Exit.DAMAGED


def test_a_link_in_the_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    path, other = made.folder_of(1) / f"{NAMES[1]}.gz", tmp_path / "other"
    path.rename(other)
    path.symlink_to(other)
    with pytest.raises(RefnetError, match="not a regular file"):
        made.read(NAMES[1])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (segment(NAMES[0], server="1"), "of another server"),
        (segment(NAMES[1]), "not that of this segment"),
        (segment("0000000200000000000000" + "05"), "of timeline 2"),
        (segment(NAMES[0])[:-1], "bytes instead of"),
        (b"\0" * SIZE, "not that of this segment"),
    ],
)
def test_what_is_not_the_segment_of_its_name_is_not_archived(tmp_path: Path, data: bytes, why: str) -> None:
    made = archive(tmp_path)
    (made.live / NAMES[0]).write_bytes(data)
    with pytest.raises(RefnetError, match=why) as caught:
        wal_writer.take_in(made, made.live)
    assert caught.value.code is Exit.DAMAGED
    assert not made.timelines()


def test_a_clone_that_writes_on_the_same_timeline_is_refused(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    before = made.read(NAMES[3])
    with pytest.raises(RefnetError, match="differs from the segment of that name"):
        put(made, NAMES[3], b"written by a clone")
    assert made.read(NAMES[3]) == before


def test_a_history_that_contradicts_the_known_one_is_refused(tmp_path: Path) -> None:
    made = archive(tmp_path)
    history = made.live / "00000002.history"
    history.write_text("1\t0/3000148\tno recovery target specified\n")
    wal_writer.take_in(made, made.live)
    assert made.history(2)[0].lsn == 0x3000148
    history.write_text("1\t0/4000148\tno recovery target specified\n")
    with pytest.raises(RefnetError, match="differs"):
        wal_writer.take_in(made, made.live)


def test_a_file_without_a_line_after_a_crash_gets_its_line(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    index = made.folder_of(1) / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    assert made.gaps(5 * SIZE, 1, 9 * SIZE) == (Gap(NAMES[3], NAMES[3], 1),)
    put(made, NAMES[3])
    assert not made.gaps(5 * SIZE, 1, 9 * SIZE)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "../" + "0" * 61])
def test_lines_that_are_malformed_do_not_count(tmp_path: Path, sha256: str) -> None:
    made = archive(tmp_path, NAMES[0])
    index = made.folder_of(1) / "index.jsonl"
    values = json.loads(index.read_text())
    index.write_text(json.dumps(values | {"sha256": sha256}) + "\n")
    assert made.segments(1) == ()


def test_a_line_that_names_a_segment_again_or_has_no_end_adds_none(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    index = made.folder_of(1) / "index.jsonl"
    second = json.loads(index.read_text().splitlines()[1]) | {"sha256": "0" * 64, "more": [1]}
    index.write_text(f"{index.read_text()}{json.dumps(second)}\n" + '{"segment": "' + "0" * (8 << 20))
    assert [one.name for one in made.segments(1)] == NAMES
    assert made.read(NAMES[0]) == segment(NAMES[0])
    with pytest.raises(RefnetError, match="differs from the index"):
        made.read(NAMES[1])


def test_a_folder_without_a_segment_is_no_timeline(tmp_path: Path) -> None:
    """Else every recovery would want its history."""
    made = archive(tmp_path, *NAMES)
    made.folder_of(15).mkdir()
    assert made.timelines() == (1,)


def test_what_the_receiver_promised_counts_only_while_what_it_received_is_here(tmp_path: Path) -> None:
    made, now = archive(tmp_path, *NAMES), datetime(2026, 11, 30, 12, tzinfo=UTC)
    next_ = "000000010000000000000009"
    partial = made.live / f"{next_}.partial"
    partial.write_bytes(segment(next_, b"a record"))

    def covered(received: int) -> datetime | None:
        report = StreamReport(StreamState.STREAMING, now, 7, 1, received, received, now)
        (made.folder / "receiver.json").write_text(report.to_json())
        return made.covered_until()

    assert covered(9 * SIZE) == now  # the end of the last segment in the archive
    assert covered(9 * SIZE + 90) == now
    assert covered(9 * SIZE + 50_000) is None  # the disk lost these pages
    partial.unlink()
    assert covered(9 * SIZE + 90) is None  # as in a copy of the folder without live/
    assert covered(0) is None


def test_an_archive_is_not_given_to_another_server(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    again = WalArchive(made.folder, no_programs)
    with pytest.raises(RefnetError, match="archive of another server"):
        wal_writer.make(again, ServerFacts("1", SIZE, 17))
    wal_writer.make(again, SERVER)


def test_a_segment_far_ahead_of_all_others_ends_the_search_for_gaps(tmp_path: Path) -> None:
    made = archive(tmp_path, NAMES[0])
    (made.live / "00000001FFFFFFFF00000FFF").write_bytes(b"\0" * SIZE)
    with pytest.raises(RefnetError, match="far ahead"):
        made.gaps(5 * SIZE, 1)


def test_what_no_base_needs_is_dropped_and_what_one_needs_is_kept(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    count, freed = wal_writer.drop_before(made, NAMES[2], keep={NAMES[0]})
    assert (count, freed > 0) == (1, True)
    assert [one.name for one in made.segments(1)] == [NAMES[0], *NAMES[2:]]
    assert len((made.folder_of(1) / "index.jsonl").read_text().splitlines()) == 3


def test_a_timeline_that_ended_in_a_segment_gives_it_under_its_plain_name(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES[:1])
    put(made, f"{NAMES[1]}.partial")
    assert [one.partial for one in made.segments(1)] == [False, True]
    assert made.read(NAMES[1]) == segment(NAMES[1])


def test_deflated_data_that_claims_more_than_a_segment_takes_no_more_memory(tmp_path: Path) -> None:
    made = archive(tmp_path, NAMES[0])
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    bomb = b"".join([deflater.compress(b"\0" * SIZE) for _ in range(200)]) + deflater.flush()
    (made.folder_of(1) / f"{NAMES[0]}.gz").write_bytes(bomb)
    with pytest.raises(RefnetError, match="damaged"):
        made.read(NAMES[0])


def test_names_that_no_segment_has_are_not_counted(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    wrong = "0000000100000000FFFFFFFF"
    (made.live / wrong).write_bytes(b"\0" * SIZE)
    (made.live / f"{wrong}.partial").write_bytes(b"\0" * SIZE)
    index = made.folder_of(1) / "index.jsonl"
    line = json.loads(index.read_text().splitlines()[0])
    index.write_text(f"{index.read_text()}{json.dumps(line | {'segment': wrong})}\n")
    (made.folder_of(1) / f"{wrong}.gz").write_bytes(b"\0" * line["size"])
    assert [one.name for one in made.segments(1)] == NAMES
    assert made.present() == {*NAMES}
    assert wal_writer.take_in(made, made.live) == []
    assert made.gaps(5 * SIZE, 1) == ()


def test_an_index_of_millions_of_short_lines_is_read_in_seconds_and_hides_no_segment(tmp_path: Path) -> None:
    made = archive(tmp_path, *NAMES)
    index = made.folder_of(1) / "index.jsonl"
    shortest = IndexLine(NAMES[0], "0" * 64, 1).to_json()
    assert len(shortest) > 110
    index.write_bytes(b"{}\n" * 4_000_000 + index.read_bytes())
    began = time.process_time()
    assert [one.name for one in made.segments(1)] == NAMES
    assert time.process_time() - began < 20
