"""New pieces are read back, and each older one within a drill's period."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.remote_store import NOW, Machine, artifact, delete, objects
from tests.shared_pieces import (
    DATA,
    DAY,
    NOISE,
    damage,
    flipped,
    memory,
    named,
    read,
    send,
)

from refnet.catalog.artifact import silent
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.object_names import PIECES
from refnet.catalog.remote import Piece
from refnet.catalog.remote_state import READ_BACK_WITHIN
from refnet.store import copy_checks
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.copy_checks import due, fetch_back, read_oldest_back, sample_back
from refnet.store.cutting import Cutting
from refnet.store.remote_pieces import damaged
from refnet.store.remote_records import RemoteRecords
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter

pytestmark = pytest.mark.usefixtures("fine_cuts")


class _Reads:
    """Counts the pieces that are read back."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        fetch = copy_checks.fetch

        def counted(bucket: object, piece: object, what: str) -> bytes:
            self.names.append(piece.name)  # type: ignore[attr-defined]
            return fetch(bucket, piece, what)  # type: ignore[arg-type]

        monkeypatch.setattr(copy_checks, "fetch", counted)

    def taken(self) -> list[str]:
        found, self.names = self.names, []
        return found


def test_new_pieces_are_read_back_and_a_share_of_the_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _Reads(machine, monkeypatch)
    first = send(machine, 1)
    assert machine.fetch_back(first.copy).state == "fetched"
    assert sorted(reads.taken()) == sorted(named(first.copy))

    second = send(machine, 2)
    assert machine.fetch_back(second.copy).state == "fetched"
    assert len(reads.taken()) == 1

    middle = len(DATA) // 2
    third = send(machine, 3, DATA[:middle] + b"changed" + DATA[middle:])
    assert machine.fetch_back(third.copy).state == "fetched"
    read = reads.taken()
    assert third.new <= set(read)
    old = len(named(third.copy)) - len(third.new)
    assert len(read) == len(third.new) + min(old, 1)
    fetch_back(machine.store(), third.copy, machine.now, silent, machine.now())
    assert sorted(reads.taken()) == sorted(named(third.copy))


def test_every_piece_is_read_back_within_30_days(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, last = _Reads(machine, monkeypatch), dict[str, int]()
    nights = []
    for night in range(60):
        machine.ticks = 60 * 24 * night
        copy = machine.send(artifact(night, DATA))
        assert machine.fetch_back(copy).state == "fetched"
        read = reads.taken()
        last |= dict.fromkeys(read, night)
        assert set(last) == named(copy)
        assert all(night - one <= 29 for one in last.values())
        nights.append(len(read))
    pieces = len(last)
    assert pieces > 15
    assert nights[0] == pieces
    assert max(nights[1:]) <= -(-pieces // 28) + 1, "not all of them in one night"


def test_the_record_names_the_pieces_that_were_read_back(machine: Machine) -> None:
    copy = machine.send(artifact(1, b"small"))
    machine.fetch_back(copy)
    assert set(machine.store().records.read_back()) == named(copy)


def _runs(waits: Iterable[timedelta], count: int) -> Iterator[tuple[int, timedelta]]:
    """Yield of each run how many of `count` pieces it reads, and how old the oldest is when the next run begins."""
    pieces = [_piece(number) for number in range(count)]
    known, now = dict[str, datetime](), NOW
    for wait in waits:
        wanted = due(pieces, known, now)
        known |= {one.name: now for one in wanted}
        now += wait
        yield len(wanted), now - min(known.values())


@pytest.mark.parametrize("hours", [1, 6, 24, 7 * 24, 10 * 24, 20 * 24, 29 * 24])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_each_piece_is_read_within_30_days_however_often_runs_are(hours: int, count: int) -> None:
    wait = timedelta(hours=hours)
    (first, _), *later = _runs([wait] * max(5, 70 * 24 // hours), count)
    assert first == count
    assert max(age for _, age in later) <= READ_BACK_WITHIN
    if hours <= 24:
        assert max(read for read, _ in later) <= 1 + count * hours / (27 * 24)


def test_a_run_that_is_late_now_and_then_changes_nothing() -> None:
    waits = [timedelta(hours=NOISE.uniform(18, 45)) for _ in range(120)]
    assert max(age for _, age in _runs(waits, 300)) <= READ_BACK_WITHIN


def test_the_record_of_a_clock_that_was_ahead_does_not_count() -> None:
    pieces = [_piece(number) for number in range(9)]
    assert due(pieces, {one.name: NOW + 90 * DAY for one in pieces}, NOW) == pieces


def _piece(number: int) -> Piece:
    return Piece(f"{'a' * 32}/pieces/{number:032x}-{number:016x}.age", 9, "b" * 64, plain=1)


def test_a_copy_that_nothing_reads_back_for_30_days_is_only_sent(machine: Machine) -> None:
    copy = machine.fetch_back(machine.send(artifact(0, DATA)))
    machine.ticks += 60 * 24 * 29
    assert machine.store().entries()[0].state == "fetched"
    machine.ticks += 60 * 24 * 2
    [old] = machine.store().entries()
    assert (old.state, old.was_fetched, old.damaged) == ("sent", True, False)
    assert machine.fetch_back(old).state == "fetched"
    assert machine.store().entries()[0].state == "fetched"
    assert not copy.stale


def test_of_two_copies_the_one_whose_pieces_are_not_read_is_only_sent(machine: Machine) -> None:
    machine.fetch_back(machine.send(artifact(0, DATA)))
    for day in range(1, 40, 3):
        machine.ticks = 60 * 24 * day
        machine.fetch_back(machine.send(artifact(day, DATA[len(DATA) // 2 :])))
    assert [one.state for one in machine.store().entries()] == ["sent", *["fetched"] * 13]


def test_a_proof_counts_as_read_back_and_a_damaged_piece_does_not(machine: Machine) -> None:
    first, second = (machine.send(artifact(number, DATA)) for number in (1, 2))
    store = machine.store()
    line = Evidence(machine.now(), Level.INTACT, Outcome.PASSED, 1.0)
    store.record(first, line)
    store.record(second, replace(line, at=machine.now() - 31 * DAY))
    assert [one.state for one in store.entries()] == ["fetched", "sent"]
    machine.fetch_back(second)
    name = second.document.pieces[0].name
    damage(machine, name, flipped)
    fetch_back(store, second, machine.now, silent, machine.now() + DAY)
    assert name not in store.records.read_back()


def test_copies_that_are_read_back_at_once_lose_no_times(tmp_path: Path) -> None:
    records = RemoteRecords(tmp_path, Cutting(bytes(32)))
    names = [_piece(number).name for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: records.add_read_back(NOW, [name], []), names))
    assert set(records.read_back()) == {*names}
    records.add_read_back(NOW + 31 * DAY, names[:1], names[1:2])
    assert set(records.read_back()) == {*names[:1]}


def test_a_replaced_old_piece_is_found_within_30_days(machine: Machine) -> None:
    copies = []
    first = machine.send(artifact(0, DATA))
    assert machine.fetch_back(first).state == "fetched"
    damage(machine, NOISE.choice(sorted(named(first))), flipped)
    for night in range(1, 33):
        machine.ticks = 60 * 24 * night
        copies.append(machine.fetch_back(machine.send(artifact(night, DATA))))
        if copies[-1].state == "damaged":
            break
    assert copies[-1].state == "damaged"
    assert not copies[-1].proven_before
    again = machine.send(artifact(99, DATA))
    assert machine.fetch_back(again).state == "fetched"
    assert read(machine, again) == DATA


def test_a_drill_reads_all_pieces_of_old_copies(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        machine.fetch_back(machine.send(artifact(number, DATA)))
    name = machine.store().entries()[0].document.pieces[2].name
    damage(machine, name, flipped)
    assert read_oldest_back(machine.store(), machine.now, silent)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format":1,"pieces":[]}', None])
def test_without_a_record_of_what_was_read_back_everything_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    reads = _Reads(machine, monkeypatch)
    machine.fetch_back(machine.send(artifact(1, DATA)))
    second = machine.send(artifact(2, DATA))
    reads.taken()
    record = machine.store().home / "read_back.json"
    record.unlink() if content is None else record.write_bytes(content)
    machine.fetch_back(second)
    assert sorted(reads.taken()) == sorted(named(second))


def test_times_that_another_program_wrote_are_not_believed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would let a piece count as read back, or as opened, that nobody read."""
    reads = _Reads(machine, monkeypatch)
    copy = machine.fetch_back(machine.send(artifact(1, DATA)))
    store, later = machine.store(), machine.now() + 31 * DAY
    times = {"format": 1, "pieces": dict.fromkeys(named(copy), int(later.timestamp()))}
    for forged in (
        times,
        times | {"format": 2, "of": "read_back.json"},
        times | {"format": 2, "of": "opened.json"},
    ):
        for file in ("read_back.json", "opened.json"):
            (store.home / file).write_text(json.dumps(forged))
        assert store.records.read_back() == {}
        assert store.records.opened(machine.now()) == frozenset()
    machine.ticks = 31 * 24 * 60
    assert [one.state for one in store.entries()] == ["sent"]
    reads.taken()
    assert machine.fetch_back(copy).state == "fetched"
    assert sorted(reads.taken()) == sorted(named(copy))


def test_the_times_of_one_record_are_not_those_of_another(machine: Machine) -> None:
    """What was read back was not opened by a drill."""
    copy = machine.fetch_back(machine.send(artifact(1, DATA)))
    store = machine.store()
    (store.home / "opened.json").write_bytes((store.home / "read_back.json").read_bytes())
    assert set(store.records.read_back()) == named(copy)
    assert store.records.opened(NOW) == frozenset()


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_run_notices_pieces_that_the_store_does_not_list_with_their_size(
    machine: Machine, is_gone: bool
) -> None:
    copies = [machine.send(artifact(number, DATA)) for number in range(1, 10)]
    name = copies[0].document.pieces[1].name
    if is_gone:
        memory(machine).delete(name)
    else:
        damage(machine, name, lambda data: data[:-1])

    sent = machine.sent(artifact(10, DATA))
    assert sent.unlisted == {name}
    [damaged] = sample_back(machine.store(), sent.others, machine.now, {}, unlisted=sent.unlisted)

    assert name in damaged.evidence[-1].reasons[0]
    states = {one.id: one.state for one in machine.store().entries()}
    assert states.pop(sent.copy.id) == "sent"
    assert [*states.values()] == ["damaged"] * 9
    assert machine.fetch_back(sent.copy).state == "fetched"
    assert read(machine, sent.copy) == DATA


def test_a_run_reads_no_piece_that_is_listed_but_for_a_sample(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.send(artifact(1, DATA))
    reads = _Reads(machine, monkeypatch)
    sent = machine.sent(artifact(2, DATA))
    assert sent.unlisted == frozenset()
    assert sample_back(machine.store(), sent.others, machine.now, {}, unlisted=sent.unlisted) == ()
    assert reads.taken() == []


def test_a_sample_that_is_refused_as_damaged_is_recorded_with_its_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = machine.send(artifact(1, DATA))

    def refused(*_: object, **__: object) -> bytes:
        raise damaged("the copy", "refused")

    monkeypatch.setattr(memory(machine), "get", refused)
    [found] = sample_back(machine.store(), [copy], machine.now)
    assert "refused" in found.evidence[-1].reasons[0]


def test_a_sample_of_older_copies_is_read_while_another_one_is_sent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [machine.send(artifact(number, DATA)) for number in (1, 2)]
    for piece in copies[0].document.pieces:
        damage(machine, piece.name, flipped)
    bucket, looking = memory(machine), Event()
    get, put = bucket.get, bucket.put

    def getting(name: str, *rest: Any, **more: Any) -> bytes:
        looking.set()
        return get(name, *rest, **more)

    def putting(name: str, data: bytes) -> str:
        assert PIECES not in name or looking.wait(60)
        return put(name, data)

    machine.store().contents()  # so that no manifest has to be fetched
    monkeypatch.setattr(bucket, "get", getting)
    monkeypatch.setattr(bucket, "put", putting)
    sender = Sender(
        machine.store(), Encrypter((machine.recovery.recipient,), machine.keys), machine.now, samples=True
    )
    new = artifact(3, DATA[::-1])
    assert new.entry
    sent = sender.send(new, new.entry, silent)

    assert sent.looked
    looked = sent.looked.result()
    assert {*looked} == {one.object for one in copies}
    damaged = sample_back(machine.store(), sent.others, machine.now, looked)
    assert {one.object for one in damaged} == {*looked}
    assert [one.state for one in machine.store().entries()] == ["sent", "damaged", "damaged"]


def test_an_empty_artifact_is_copied_sampled_and_read(machine: Machine) -> None:
    sent = send(machine, 1, b"")
    assert sent.new == set()
    assert machine.fetch_back(sent.copy).state == "fetched"
    assert sample_back(machine.store(), [sent.copy], machine.now) == ()
    delete(machine.store(), sent.copy)
    assert objects(machine.bucket) == []


def test_what_was_read_before_the_store_went_away_is_not_read_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _Reads(machine, monkeypatch)
    copy, fetch = machine.send(artifact(1, DATA)), copy_checks.fetch

    def failing(*given: Any) -> bytes:
        if len(reads.names) == 9:
            raise BucketError(BucketFailure.UNREACHABLE, "the line is down", "")
        return fetch(*given)

    monkeypatch.setattr(copy_checks, "fetch", failing)
    with pytest.raises(BucketError, match="line is down"):
        machine.fetch_back(copy)
    first = {*reads.taken()}
    assert machine.store().entries()[0].state == "sent"
    monkeypatch.setattr(copy_checks, "fetch", fetch)
    assert machine.fetch_back(copy).state == "fetched"
    assert len(first & {*reads.taken()}) <= 4
