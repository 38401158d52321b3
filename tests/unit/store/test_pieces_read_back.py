"""New pieces are read back, and each older one within a drill's period."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.remote_store import NOW, Machine, artifact, cut_finely, delete, objects
from tests.shared_pieces import (
    DATA,
    DAY,
    NOISE,
    SCALE,
    damage,
    fixed_cuts,
    flipped,
    memory,
    named,
    read,
    send,
)

from refnet.catalog.artifact import OpenArtifact, silent
from refnet.store import copy_checks
from refnet.store.copy_checks import fetch_back, read_oldest_back, sample_back
from refnet.store.sending import Sender, SentCopy
from refnet.store.sending_pieces import Encrypter


@pytest.fixture(autouse=True)
def _fine_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_finely(monkeypatch, SCALE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return fixed_cuts(tmp_path / "home")


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
    assert len(reads.taken()) == -(-len(named(second.copy)) // 30)

    middle = len(DATA) // 2
    third = send(machine, 3, DATA[:middle] + b"changed" + DATA[middle:])
    assert machine.fetch_back(third.copy).state == "fetched"
    read = reads.taken()
    assert third.new <= set(read)
    old = len(named(third.copy)) - len(third.new)
    assert len(read) == len(third.new) + -(-old // 30)
    fetch_back(machine.store(), third.copy, machine.now, silent, fully=True)
    assert sorted(reads.taken()) == sorted(named(third.copy))


def test_every_piece_is_read_back_within_30_days(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, last = _Reads(machine, monkeypatch), dict[str, int]()
    nights = []
    for night in range(75):
        machine.ticks = 60 * 24 * night
        copy = machine.send(artifact(night, DATA))
        assert machine.fetch_back(copy).state == "fetched"
        read = reads.taken()
        last |= dict.fromkeys(read, night)
        assert set(last) == named(copy)
        assert all(night - one <= 30 for one in last.values())
        nights.append(len(read))
    pieces = len(last)
    assert pieces > 15
    assert nights[0] == pieces
    assert sum(nights[1:]) <= 74 * (-(-pieces // 30) + 1), "not all of them each night"


def test_the_record_names_the_pieces_that_were_read_back(machine: Machine) -> None:
    copy = machine.send(artifact(1, b"small"))
    machine.fetch_back(copy)
    assert set(machine.store().records.read_back(NOW - DAY)) == named(copy)


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

    sent = _sent(machine, artifact(10, DATA))
    assert sent.unlisted == {name}
    [damaged] = sample_back(machine.store(), sent.others, machine.now, most=0, unlisted=sent.unlisted)

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
    sent = _sent(machine, artifact(2, DATA))
    assert sent.unlisted == frozenset()
    assert sample_back(machine.store(), sent.others, machine.now, most=0, unlisted=sent.unlisted) == ()
    assert reads.taken() == []


def _sent(machine: Machine, made: OpenArtifact) -> SentCopy:
    assert made.entry
    encrypter = Encrypter((machine.recovery.recipient,), machine.keys)
    return Sender(machine.store(), encrypter, machine.now).send(made, made.entry, silent)


def test_an_empty_artifact_is_copied_sampled_and_read(machine: Machine) -> None:
    sent = send(machine, 1, b"")
    assert sent.new == set()
    assert machine.fetch_back(sent.copy).state == "fetched"
    assert sample_back(machine.store(), [sent.copy], machine.now) == ()
    delete(machine.store(), sent.copy)
    assert objects(machine.bucket) == []
