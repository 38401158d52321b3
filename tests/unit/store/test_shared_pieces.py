"""Copies share pieces: equal bytes are sent once, and nothing is shared that is doubtful, foreign or old."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact
from tests.shared_pieces import (
    DATA,
    LEAST_PIECE,
    MOST_BLOCK,
    NOISE,
    PIECE,
    Sent,
    damage,
    flipped,
    memory,
    named,
    pieces_in,
    read,
    send,
)

from refnet.catalog.artifact import silent
from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store import sending_pieces
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.copy_checks import fetch_back
from refnet.store.encryption import PrivateKey
from refnet.store.sending import Sender, Sharing
from refnet.store.sending_pieces import Encrypter

pytestmark = pytest.mark.usefixtures("fine_cuts")


def test_the_second_copy_of_an_unchanged_artifact_sends_no_piece(machine: Machine) -> None:
    first, second = send(machine, 1), send(machine, 2)
    assert first.new == pieces_in(machine)
    assert second.new == set()
    assert second.copy.document.pieces == first.copy.document.pieces
    assert second.copy.document.ranges == first.copy.document.ranges
    assert second.copy.id != first.copy.id
    assert machine.store().contents().gaps == ()


def test_a_copy_without_anything_new_asks_for_little(machine: Machine) -> None:
    send(machine, 1)
    before = memory(machine).requests.copy()
    machine.send(artifact(2, DATA))
    asked = memory(machine).requests - before
    assert (asked["put"], asked["run"]) == (1, 1), "the manifest, and a lease"
    assert asked["get"] == 1, "the manifest of the first copy"
    assert (asked["list"], asked["folders"], asked["versions"]) == (3, 0, 0), "manifests, and what is shared"


def test_pieces_have_the_limits_and_are_used_to_their_ends(machine: Machine) -> None:
    sent = send(machine, 1)
    plain = [one.plain for one in sent.copy.document.pieces]
    assert all(LEAST_PIECE <= one <= PIECE for one in plain[:-1])
    assert sum(plain) == len(DATA)
    assert len(set(plain)) > len(plain) // 2, "sizes are no round numbers"
    assert all(one.plain < one.size for one in sent.copy.document.pieces)


def test_content_that_repeats_is_sent_once(machine: Machine) -> None:
    zeros = send(machine, 1, bytes(10 * PIECE + 5))
    assert len(zeros.new) == 2, "a block, and the last one"
    assert zeros.size <= 2 * MOST_BLOCK
    block = NOISE.randbytes(20 * MOST_BLOCK)
    twice = send(machine, 2, block * 2)
    assert twice.size < len(block) + 6 * MOST_BLOCK
    assert named(zeros.copy, twice.copy) == pieces_in(machine)


def test_a_change_in_the_middle_sends_that_alone(machine: Machine) -> None:
    first = send(machine, 1)
    middle = len(DATA) // 2
    changed = send(machine, 2, DATA[:middle] + b"changed" + DATA[middle:])
    assert 0 < changed.size <= 5 * MOST_BLOCK
    assert len(changed.new) <= 3
    assert named(changed.copy) > changed.new
    assert send(machine, 3).size <= 5 * MOST_BLOCK, "and back again"
    assert read(machine, first.copy) == DATA


def test_what_is_appended_is_all_that_is_sent(machine: Machine) -> None:
    send(machine, 1)
    more = NOISE.randbytes(3 * PIECE)
    assert send(machine, 2, DATA + more).size <= len(more) + MOST_BLOCK
    assert send(machine, 3, DATA[: len(DATA) // 2]).size <= MOST_BLOCK


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_without_the_file_of_blocks_whole_pieces_are_shared(machine: Machine, content: bytes | None) -> None:
    first = send(machine, 1)
    file = machine.store().home / "blocks" / "database"
    for number in (2, 3):
        file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
        assert send(machine, number).new == set()
    file.unlink(missing_ok=True)
    middle = len(DATA) // 2
    changed = send(machine, 4, DATA[:middle] + b"changed" + DATA[middle:])
    assert 0 < changed.size <= 5 * PIECE
    assert named(first.copy) & named(changed.copy)
    assert send(machine, 5, DATA[:middle] + b"changed!" + DATA[middle:]).size <= 5 * MOST_BLOCK


def test_a_copy_says_how_much_it_sent_and_how_much_it_shares(machine: Machine) -> None:
    first = machine.sent(artifact(1, DATA))
    assert (first.sent, first.shared) == (first.copy.document.size, 0)
    middle = len(DATA) // 2
    second = machine.sent(artifact(2, DATA[:middle] + b"changed" + DATA[middle:]))
    assert 0 < second.sent <= 6 * MOST_BLOCK
    assert second.sent + second.shared == second.copy.document.size
    again = machine.sent(artifact(3, DATA[:middle] + b"changed" + DATA[middle:]))
    assert (again.sent, again.shared) == (0, second.copy.document.size)


def test_sources_share_pieces_too(machine: Machine) -> None:
    send(machine, 1)
    other = artifact(2, DATA, source=SourceName.CONFIG, name="config_20261127_170000.tar.gz")
    assert send(machine, 2, by=lambda: machine.send(other)).new == set()


def test_a_list_of_files_is_shared_as_an_artifact_is(machine: Machine) -> None:
    def listed(number: int, names: Iterable[int]) -> Copy:
        text = json.dumps(
            {"files": [hashlib.sha256(str(one).encode()).hexdigest() for one in names]}
        ).encode()
        packed = gzip.compress(text, 1, mtime=0)
        made = artifact(
            number, DATA, source=SourceName.OBSIDIAN, name=f"vault_2026112{number}.tar.gz",
            files_sha256=hashlib.sha256(text).hexdigest(), details={"files": 9, "folders": 0, "links": 0},
        )  # fmt: skip
        copy = machine.send(replace(made, packed_files=lambda: packed))
        assert machine.store(key=True).artifact(copy).files() == text
        return copy

    first = send(machine, 1, by=lambda: listed(1, range(2000)))
    assert first.copy.document.list_ranges
    again = send(machine, 2, by=lambda: listed(2, range(2000)))
    assert again.new == set()
    more = send(machine, 3, by=lambda: listed(3, range(2001)))
    assert len(more.new) == 1


def test_other_recipients_get_pieces_of_their_own(machine: Machine) -> None:
    first = send(machine, 1)
    machine.recovery = PrivateKey.new()
    second = send(machine, 2)
    assert second.new == named(second.copy)
    assert not second.new & named(first.copy)
    assert send(machine, 3).new == set()


def _new_signer(machine: Machine) -> None:
    machine.trusted = (machine.keys.signer().fingerprint,)
    machine.keys.signing_file.unlink()
    machine.keys.make_missing()


def _new_keys(machine: Machine) -> None:
    machine.trusted = (machine.keys.signer().fingerprint,)
    for path in (machine.keys.signing_file, machine.keys.catalog_file):
        path.unlink()
    machine.keys.make_missing()


@pytest.mark.parametrize("change", [_new_signer, _new_keys])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_after_a_rotation_everything_is_sent_again_once(
    machine: Machine, change: Callable[[Machine], None], is_trusted: bool
) -> None:
    first = send(machine, 1)
    change(machine)
    if not is_trusted:
        machine.trusted = ()
    second = send(machine, 2)
    assert second.new == named(second.copy)
    assert len(second.new) == len(first.new) or change is _new_keys
    assert send(machine, 3).new == set()
    assert second.copy.document.counter == 1
    if is_trusted:
        assert {one.id for one in machine.store(key=True).entries()} >= {first.copy.id, second.copy.id}


def test_thousands_of_pieces_in_the_store_cost_little(machine: Machine) -> None:
    first = send(machine, 1)
    content = memory(machine).contents[first.copy.document.pieces[0].name]
    for number in range(20_000):
        name = SharedName(first.copy.document.key, f"{number:032x}").named("0" * 16)
        memory(machine).contents[name] = content
    began = time.process_time()
    second = machine.send(artifact(2, DATA))
    assert time.process_time() - began < 4
    assert second.document.pieces == first.copy.document.pieces


@pytest.mark.parametrize("change", [_new_signer, _new_keys])
def test_a_rotation_in_the_middle_of_a_copy_leaves_a_whole_copy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, change: Callable[[Machine], None]
) -> None:
    first = send(machine, 1)
    middle = len(DATA) // 2
    changed = DATA[:middle] + NOISE.randbytes(3 * PIECE) + DATA[middle:]
    put, count = MemoryBucket.put, 0

    def stopped(bucket: MemoryBucket, name: str, data: bytes) -> str:
        nonlocal count
        count += "/pieces/" in name
        if count > 2:
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        return put(bucket, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryBucket, "put", stopped)
        with pytest.raises(BucketError):
            machine.send(artifact(2, changed))
    change(machine)

    second = send(machine, 2, changed)

    assert not named(second.copy) & named(first.copy)
    assert machine.fetch_back(second.copy).state == "fetched"
    assert read(machine, first.copy) == DATA


def test_after_a_failed_request_no_other_begins(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypt, put = Encrypter.piece, MemoryBucket.put
    failed, first, asked = threading.Event(), iter([True]), list[str]()
    others = {*threading.enumerate()}

    def piece(encrypter: Encrypter, data: bytes) -> bytes:
        assert next(first, False) or failed.wait(30)
        return encrypt(encrypter, data)

    def refused(bucket: MemoryBucket, name: str, data: bytes) -> str:
        if "/pieces/" in name:
            asked.append(name)
            raise BucketError(BucketFailure.UNREACHABLE, "no answer", "Retry.")
        return put(bucket, name, data)

    monkeypatch.setattr(Encrypter, "piece", piece)
    monkeypatch.setattr(MemoryBucket, "put", refused)
    with pytest.raises(BucketError):
        machine.send(artifact(1, DATA))
    failed.set()
    for thread in {*threading.enumerate()} - others:
        thread.join(30)
    assert len(asked) == 1


def test_a_store_that_somebody_emptied_gets_everything_again(machine: Machine) -> None:
    first = send(machine, 1)
    memory(machine).contents.clear()
    second = send(machine, 2)
    assert second.new == named(second.copy)
    assert len(second.new) == len(first.new)
    assert machine.fetch_back(second.copy).state == "fetched"
    assert machine.store().contents().gaps


def test_pieces_that_somebody_deleted_are_sent_again_and_the_older_copy_is_damaged(machine: Machine) -> None:
    first = send(machine, 1)
    lost = sorted(named(first.copy))[::2]
    for name in lost:
        machine.bucket.delete(name)
    second = machine.send(artifact(2, DATA))
    assert read(machine, second) == DATA
    assert len(pieces_in(machine)) == len(first.new)
    assert machine.fetch_back(first.copy).state == "damaged"
    assert machine.fetch_back(second).state == "fetched"


def test_another_machine_sends_pieces_of_its_own(machine: Machine, tmp_path: Path) -> None:
    first = send(machine, 1)
    other = Machine(tmp_path / "other", machine.bucket, machine.recovery)
    second = send(other, 2)
    assert second.new == named(second.copy)
    assert first.copy.document.key != second.copy.document.key
    ours, theirs = ({SharedName.read(name).hash for name in one.new} for one in (first, second))  # type: ignore[union-attr]
    assert not ours & theirs, "nobody sees that they have the same content"


def test_a_copy_of_another_store_of_this_machine_is_not_shared(machine: Machine) -> None:
    """A bucket was copied: what says that it is of the store `cloud` is no copy that this machine sent to `other`."""
    send(machine, 1)
    machine.name = "other"
    second = send(machine, 2)
    assert second.new == named(second.copy)


def test_a_copy_older_than_90_days_is_not_shared_and_a_younger_one_renews_its_pieces(
    machine: Machine,
) -> None:
    first = send(machine, 1)
    machine.ticks = 60 * 24 * 89
    assert send(machine, 2).new == set()
    machine.ticks = 60 * 24 * 100
    assert send(machine, 3).new == set()
    machine.ticks = 60 * 24 * 191
    late = send(machine, 4)
    assert late.new == named(late.copy)
    assert read(machine, first.copy) == DATA


def test_the_age_up_to_which_copies_are_shared_is_a_setting(machine: Machine) -> None:
    machine.sharing = Sharing(age=timedelta(days=400))
    send(machine, 1)
    machine.ticks = 60 * 24 * 399
    assert send(machine, 2).new == set()
    machine.sharing = Sharing(age=timedelta(days=1))
    machine.ticks += 60 * 24
    late = send(machine, 3)
    assert late.new == named(late.copy)


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1], lambda data: data + b"x", lambda _: None],
    ids=["shortened", "longer", "missing"],
)
def test_a_piece_that_is_missing_or_of_another_size_is_sent_again(
    machine: Machine, change: Callable[[bytes], bytes | None]
) -> None:
    first = send(machine, 1)
    lost = first.copy.document.pieces[1]
    damage(machine, lost.name, change)
    second = send(machine, 2)
    assert len(second.new) == 1
    assert second.size == lost.plain
    assert lost.name not in named(second.copy)
    assert machine.fetch_back(second.copy).state == "fetched"


def test_a_replaced_piece_is_found_and_sent_again(machine: Machine) -> None:
    first = send(machine, 1)
    lost = first.copy.document.pieces[1]
    damage(machine, lost.name, flipped)
    assert machine.fetch_back(first.copy).state == "damaged"

    second = send(machine, 2)

    assert lost.name not in named(second.copy)
    assert machine.fetch_back(second.copy).state == "fetched"
    assert [one.state for one in machine.store().entries()] == ["fetched", "damaged"]


def test_what_a_piece_lost_is_missing_in_every_copy_that_names_it(machine: Machine) -> None:
    first, second = send(machine, 1), send(machine, 2)
    for one in (first, second):
        assert machine.fetch_back(one.copy).state == "fetched"
    damage(machine, first.copy.document.pieces[1].name, flipped)

    fetch_back(machine.store(), second.copy, machine.now, silent, machine.now())

    assert {one.state for one in machine.store().entries()} == {"damaged"}


def test_an_artifact_whose_copy_is_damaged_is_sent_again(machine: Machine) -> None:
    first = send(machine, 1)
    damage(machine, first.copy.document.pieces[0].name, flipped)
    assert machine.fetch_back(first.copy).state == "damaged"
    again = send(machine, 1)
    assert again.copy.id != first.copy.id
    assert not named(again.copy) & named(first.copy), "whatever else is wrong with it"


def _to(away: Machine, origin: Machine, number: int) -> Sent:
    """Send the copy `number` of `origin` as it is encrypted; other recipients are in force by now."""
    [copy] = (one for one in origin.store(key=True).entries() if one.name == artifact(number, b"").name)
    encrypter = Encrypter((PrivateKey.new().recipient,), away.keys)
    sender = Sender(away.store(), encrypter, away.now)
    return send(
        away, number, read(origin, copy), lambda: sender.send_copy(origin.store(key=True), copy, silent).copy
    )


def test_copies_of_the_encrypted_backup_folder_share_as_they_do_there(machine: Machine) -> None:
    machine.name = "local"
    away = replace(machine, bucket=MemoryBucket(), name="away")
    middle = len(DATA) // 2
    changed = DATA[:middle] + b"changed" + DATA[middle:]
    local = [send(machine, number, data) for number, data in enumerate((DATA, DATA, changed))]

    sent = [_to(away, machine, number) for number in range(3)]

    assert [len(one.new) for one in sent] == [len(one.new) for one in local]
    assert sent[1].new == set()
    assert [one.sha256 for one in sent[2].copy.document.pieces] == [
        one.sha256 for one in local[2].copy.document.pieces
    ]
    assert sent[2].copy.document.ranges == local[2].copy.document.ranges
    for one in sent:
        assert away.fetch_back(one.copy).state == "fetched"


def test_pieces_of_the_backup_folder_for_other_recipients_are_not_shared(machine: Machine) -> None:
    machine.name = "local"
    away = replace(machine, bucket=MemoryBucket(), name="away")
    send(machine, 1)
    _to(away, machine, 1)
    machine.recovery = away.recovery = PrivateKey.new()
    send(machine, 2)
    second = _to(away, machine, 2)
    assert second.new == named(second.copy)


def test_the_bytes_of_a_copy_that_is_there_are_not_read_again(machine: Machine) -> None:
    first, wanted = send(machine, 1), artifact(2, DATA)

    def unread() -> BinaryIO:
        raise AssertionError("it is read")

    second = machine.send(replace(wanted, open=unread))

    assert second.document.ranges == first.copy.document.ranges
    with machine.store(key=True).artifact(second).open() as reader:
        assert reader.read() == DATA
    damage(machine, second.document.pieces[0].name, flipped)
    machine.fetch_back(first.copy)
    fetch_back(machine.store(), second, machine.now, silent, machine.now())
    with pytest.raises(AssertionError, match="it is read"):
        machine.send(replace(artifact(3, DATA), open=unread))


def test_an_artifact_of_too_many_pieces_is_refused_before_they_are_all_sent(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_pieces, "MOST_PIECES", 2)
    with pytest.raises(RefnetError, match="too large for cloud: a copy has at most 2 pieces"):
        send(machine, 1)
    assert len(pieces_in(machine)) <= 2
    assert machine.store().entries() == ()
