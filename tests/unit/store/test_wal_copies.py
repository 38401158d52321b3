"""WAL in a remote store: what is sent, when, and what another machine reads of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests import wal_segments
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, objects
from tests.wal_segments import SERVER, SIZE

from refnet.catalog import wal_record
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Leftover
from refnet.catalog.wal_record import RecordName, SentWal
from refnet.core.errors import Exit, RefnetError
from refnet.sources.cluster import wal_offsite, wal_writer
from refnet.store import wal_copies, wal_sending
from refnet.store.backup_folder import locked
from refnet.store.sending_pieces import Encrypter
from refnet.store.wal_sending import New, Sent, Server, WalSender

FIRST, SECOND, THIRD = (f"0000000100000000{number:08X}" for number in (1, 2, 3))
NEW_TIMELINE = "000000020000000000000003"
ID = SERVER.system_identifier
HOUR = 60


class Offsite:
    """An archive whose WAL a machine sends, a record a minute."""

    def __init__(self, folder: Path) -> None:
        self.archive = wal_segments.archive(folder / "backups")
        self.machine = Machine(folder / "home")
        self.live, self.length = "", 0

    def write(self, name: str, length: int) -> None:
        """Write the first bytes of a segment that is not finished."""
        self.live, self.length = name, length

    def new(self) -> New:
        found = wal_offsite.new_in(self.archive)
        data = wal_segments.segment(self.live)[: self.length] if self.live else b""
        now = self.machine.same()
        return New(found.segments, found.histories, self.live, lambda offset: data[offset:], now)

    def send(self) -> Sent:
        self.machine.now()
        store = self.machine.store()
        encrypter = Encrypter((self.machine.recovery.recipient,), self.machine.keys)
        return WalSender(store, encrypter, Server(ID, SIZE, 17), self.machine.same).send(self.new)

    def read(self) -> SentWal:
        found, problems = wal_copies.read(self.machine.store(key=True), ID)
        assert not problems
        return found

    def notes(self) -> list[Path]:
        """What the machine recorded of what it sent."""
        return [*(self.machine.home / "remote" / "cloud").glob("wal-*.json")]

    def records(self) -> list[str]:
        return sorted(name for name in objects(self.machine.bucket) if RecordName.read(name))


@pytest.fixture
def offsite(tmp_path: Path) -> Offsite:
    return Offsite(tmp_path)


def test_a_finished_segment_is_sent_once_and_comes_back_as_it_was(offsite: Offsite) -> None:
    file = wal_segments.put(offsite.archive, FIRST, b"rows")
    offsite.send()
    before = objects(offsite.machine.bucket)
    offsite.send()
    assert objects(offsite.machine.bucket) == before
    (segment,) = offsite.read().segments.values()
    assert wal_copies.fetch(offsite.machine.store(key=True), segment) == file.read_bytes()


def test_segments_that_were_deleted_here_before_they_were_sent_are_remembered(offsite: Offsite) -> None:
    """The store was away for longer than the archive keeps WAL."""
    wal_segments.put(offsite.archive, FIRST)
    assert offsite.send().never_sent == ""
    wal_segments.put(offsite.archive, SECOND)
    wal_segments.put(offsite.archive, THIRD)
    wal_writer.drop_before(offsite.archive, THIRD)
    assert offsite.send().never_sent == SECOND
    assert offsite.send().never_sent == SECOND
    wal_segments.put(offsite.archive, f"0000000100000000{4:08X}")
    assert offsite.send().never_sent == SECOND


def test_what_was_sent_may_be_deleted_here(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    wal_segments.put(offsite.archive, SECOND)
    offsite.send()
    wal_segments.put(offsite.archive, THIRD)
    wal_writer.drop_before(offsite.archive, THIRD)
    assert offsite.send().never_sent == ""


def test_a_minute_sends_only_the_bytes_that_are_new(offsite: Offsite) -> None:
    for length in (8192, 8192 + 500, 8192 + 500, 9000):
        offsite.write(FIRST, length)
        offsite.send()
    assert len(offsite.records()) == 3
    tail = offsite.read().tail
    assert tail
    assert (tail.segment, tail.offset, tail.data) == (FIRST, 0, wal_segments.segment(FIRST)[:9000])


def test_an_idle_server_sends_nothing(offsite: Offsite) -> None:
    offsite.write(FIRST, 100)
    offsite.send()
    for _ in range(3 * HOUR):
        offsite.send()
    assert len(offsite.records()) == 1


def test_an_hour_of_minutes_becomes_one_record_that_says_the_same(offsite: Offsite) -> None:
    for minute in range(1, HOUR + 3):
        offsite.write(FIRST if minute < 30 else SECOND, 1000 * minute)
        if minute == 30:
            wal_segments.put(offsite.archive, FIRST)
        offsite.send()
    assert len(offsite.records()) < 5
    found = offsite.read()
    assert [*found.segments] == [FIRST]
    assert found.tail
    assert found.tail.data == wal_segments.segment(SECOND)[: found.tail.end]
    assert found.tail.end == 1000 * (HOUR + 2)


def test_the_history_of_a_timeline_outlives_the_minute_that_it_was_sent_in(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    wal_segments.put(offsite.archive, NEW_TIMELINE)
    history = offsite.archive.folder / "wal" / "00000002.history"
    history.write_text("1\t0/3000000\tno recovery target specified\n")
    for minute in range(1, HOUR + 3):
        offsite.write(THIRD, 1000 * minute)
        offsite.send()
    assert len(offsite.records()) < 5
    assert offsite.read().histories == {history.name: history.read_text()}
    prune(offsite, "F" * 24)
    assert offsite.read().histories == {history.name: history.read_text()}


def test_the_hours_of_a_quiet_server_are_an_object_each(offsite: Offsite) -> None:
    hours = 6
    for minute in range(hours * HOUR):
        offsite.write(FIRST, 100 + minute)
        offsite.send()
    assert len(offsite.records()) <= hours + HOUR + 1


def test_records_that_may_not_be_deleted_are_not_read_twice(offsite: Offsite) -> None:
    bucket = offsite.machine.bucket
    assert isinstance(bucket, MemoryBucket)
    bucket.lock = timedelta(days=30)
    for minute in range(1, HOUR + 5):
        offsite.write(FIRST, 1000 * minute)
        offsite.send()
    assert len(offsite.records()) > HOUR
    read = bucket.requests["get"]
    tail = offsite.read().tail
    assert tail
    assert tail.end == 1000 * (HOUR + 4)
    assert bucket.requests["get"] - read < 6


def test_without_its_record_of_what_was_sent_a_machine_sends_all_again_under_new_counters(
    offsite: Offsite,
) -> None:
    wal_segments.put(offsite.archive, FIRST)
    first = offsite.send()
    for file in offsite.notes():
        file.write_text("{")
    wal_segments.put(offsite.archive, SECOND)
    again = offsite.send()
    assert again.counter > first.counter
    assert sorted(offsite.read().segments) == [FIRST, SECOND]


def nonces(monkeypatch: pytest.MonkeyPatch, digit: str) -> None:
    monkeypatch.setattr(wal_sending.secrets, "token_hex", lambda _: digit * 16)


def test_a_kill_between_a_record_and_the_note_of_it_hides_nothing_that_is_sent_later(
    offsite: Offsite, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    noted = {path: path.read_bytes() for path in offsite.notes()}
    nonces(monkeypatch, "f")
    wal_segments.put(offsite.archive, SECOND)
    offsite.send()
    for path, data in noted.items():
        path.write_bytes(data)
    nonces(monkeypatch, "0")
    wal_segments.put(offsite.archive, THIRD)
    offsite.send()
    assert sorted(offsite.read().segments) == [FIRST, SECOND, THIRD]
    assert len({RecordName.read(one) for one in offsite.records()}) == 2
    assert set(prune(offsite, FIRST).values()) <= {"WAL that no record names"}


def test_with_an_old_record_of_what_was_sent_a_machine_repeats_no_counter(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    old = {path: path.read_bytes() for path in offsite.notes()}
    for name in (SECOND, THIRD):
        wal_segments.put(offsite.archive, name)
        last = offsite.send()
    for path, data in old.items():
        path.write_bytes(data)
    for _ in range(HOUR):
        offsite.machine.now()
    assert offsite.send().counter == last.counter + 1


def test_a_counter_in_a_name_that_no_trusted_record_has_is_not_continued(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    for path in offsite.notes():
        path.unlink()
    key = offsite.machine.store().own_key or ""
    offsite.machine.bucket.put(wal_record.record_object(key, ID, 10**12 - 1, "0" * 16), b"of somebody")
    assert offsite.send().counter == 2


def test_a_segment_that_was_replaced_in_the_store_is_damage(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    (segment,) = offsite.read().segments.values()
    bucket = offsite.machine.bucket
    bucket.delete(segment.object)
    bucket.put(segment.object, b"other")
    with pytest.raises(RefnetError) as raised:
        wal_copies.fetch(offsite.machine.store(key=True), segment)
    assert raised.value.code is Exit.DAMAGED


def test_records_of_a_signer_who_is_not_trusted_do_not_count(offsite: Offsite, tmp_path: Path) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    other = Offsite(tmp_path / "other")
    other.machine.bucket = offsite.machine.bucket
    other.machine.recovery = offsite.machine.recovery
    wal_segments.put(other.archive, SECOND)
    other.send()
    found, problems = wal_copies.read(offsite.machine.store(key=True), ID)
    assert [*found.segments] == [FIRST]
    assert "1 record" in problems[0]


def test_two_machines_that_are_trusted_continue_one_server(offsite: Offsite, tmp_path: Path) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    other = Offsite(tmp_path / "other")
    other.machine.bucket = offsite.machine.bucket
    other.machine.recovery = offsite.machine.recovery
    wal_segments.put(other.archive, SECOND)
    other.send()
    store = offsite.machine.store(key=True, any_signer=True)
    assert sorted(wal_copies.read(store, ID)[0].segments) == [FIRST, SECOND]


def test_a_record_with_segments_does_not_claim_commits_that_come_after_them(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.write(SECOND, 100)
    sent = offsite.send()
    found = offsite.read()
    assert len(offsite.records()) == 2
    assert found.newest
    assert found.newest.covered_until == sent.covered_until == offsite.machine.same()
    offsite.machine.bucket.delete(offsite.records()[1])
    assert (newest := offsite.read().newest)
    assert newest.covered_until is None


def test_what_is_complete_in_a_store_stays_so_while_the_server_is_idle(offsite: Offsite) -> None:
    offsite.write(FIRST, 100)
    offsite.send()
    for _ in range(5):
        sent = offsite.send()
    assert sent.covered_until == offsite.machine.same()


def test_the_archive_of_another_machine_is_filled_up_to_the_last_byte(
    offsite: Offsite, tmp_path: Path
) -> None:
    wal_segments.put(offsite.archive, FIRST)
    wal_segments.put(offsite.archive, SECOND)
    offsite.write(THIRD, 5000)
    offsite.send()
    archive = wal_segments.archive(tmp_path / "elsewhere")
    said = offsite.read()
    brought = wal_offsite.fill(archive, offsite.machine.store(key=True), said, SIZE)
    assert (brought.segments, brought.problems) == (2, ())
    assert archive.read(FIRST) == wal_segments.segment(FIRST)
    assert archive.read(THIRD) == wal_segments.segment(THIRD)[:5000].ljust(SIZE, b"\0")
    again = wal_offsite.fill(archive, offsite.machine.store(key=True), said, SIZE)
    assert again.segments == 0


def test_what_a_running_receiver_writes_is_not_replaced_by_a_fetch(offsite: Offsite, tmp_path: Path) -> None:
    offsite.write(THIRD, 5000)
    offsite.send()
    archive = wal_segments.archive(tmp_path / "elsewhere")
    with locked(archive.folder, "a receiver"):
        wal_offsite.fill(archive, offsite.machine.store(key=True), offsite.read(), SIZE)
    assert [*archive.live.iterdir()] == []
    wal_offsite.fill(archive, offsite.machine.store(key=True), offsite.read(), SIZE)
    assert len([*archive.live.iterdir()]) == 1


def test_a_damaged_segment_is_named_and_the_others_come(offsite: Offsite, tmp_path: Path) -> None:
    for name in (FIRST, SECOND):
        wal_segments.put(offsite.archive, name)
    offsite.send()
    said = offsite.read()
    offsite.machine.bucket.delete(said.segments[FIRST].object)
    archive = wal_segments.archive(tmp_path / "elsewhere")
    brought = wal_offsite.fill(archive, offsite.machine.store(key=True), said, SIZE)
    assert brought.segments == 1
    assert FIRST in brought.problems[0]


def test_a_rotation_sends_everything_to_the_new_recipients(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    before = offsite.read().segments[FIRST].object
    offsite.machine.recovery = type(offsite.machine.recovery).new()
    offsite.machine.ticks += int(timedelta(days=1) / timedelta(minutes=1))
    offsite.send()
    assert offsite.read().segments[FIRST].object != before


def prune(offsite: Offsite, first_needed: str) -> dict[str, str]:
    """Delete what `outlived` names; why, by object."""
    store, key = offsite.machine.store(), offsite.machine.store().own_key
    assert key
    before = datetime.now(UTC) + timedelta(days=1)
    going = {
        one.name: why
        for one, why in wal_copies.outlived(store, key, ID, lambda name: name >= first_needed, before)
    }
    for name in going:
        store.clean(Leftover(SourceName.DATABASE, name, 0, ""))
    return going


def test_a_prune_deletes_segments_that_no_base_backup_needs_and_the_records_of_them_alone(
    offsite: Offsite,
) -> None:
    for name in (FIRST, SECOND, THIRD):
        wal_segments.put(offsite.archive, name)
        offsite.send()
    first = offsite.read().segments[FIRST].object
    going = prune(offsite, SECOND)
    assert first in going
    assert len(going) == 2
    assert sorted(offsite.read().segments) == [SECOND, THIRD]
    assert prune(offsite, SECOND) == {}


def test_a_prune_deletes_records_that_an_hour_repeats_and_objects_that_no_record_names(
    offsite: Offsite,
) -> None:
    bucket = offsite.machine.bucket
    assert isinstance(bucket, MemoryBucket)
    bucket.lock = timedelta(days=1)
    for minute in range(1, HOUR + 5):
        offsite.write(FIRST, 1000 * minute)
        offsite.send()
    bucket.lock = None
    key = offsite.machine.store().own_key or ""
    junk = wal_record.segment_object(key, ID, SECOND, "e" * 16)
    bucket.put(junk, b"of a killed run")
    tail = offsite.read().tail
    going = prune(offsite, FIRST)
    assert len(going) == HOUR + 1 + 1
    assert going[junk] == "WAL that no record names"
    assert offsite.read().tail == tail


def test_a_record_that_cannot_be_read_keeps_what_it_may_name(offsite: Offsite) -> None:
    wal_segments.put(offsite.archive, FIRST)
    offsite.send()
    bucket, (name,) = offsite.machine.bucket, offsite.records()
    bucket.delete(name)
    bucket.put(name, b"damaged")
    assert prune(offsite, FIRST) == {}
