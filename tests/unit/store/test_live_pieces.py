"""A drill of a store opens every piece that a copy there names, with the recovery key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, delete, send_format_1
from tests.shared_pieces import DATA, PIECE, damage, flipped, memory, named

from refnet.catalog.artifact import silent
from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Piece
from refnet.core.errors import Exit, RefnetError
from refnet.store import known_blocks, live_pieces
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.cutting import Cutting
from refnet.store.encryption import PrivateKey, encrypt
from refnet.store.known_blocks import PieceCuts
from refnet.store.live_pieces import OpenedPieces, open_pieces
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter

HALF = len(DATA) // 2

pytestmark = pytest.mark.usefixtures("fine_cuts")


def _opened(machine: Machine) -> OpenedPieces:
    return open_pieces(machine.store(key=True), machine.now, silent)


def _states(machine: Machine) -> list[str]:
    return [one.state for one in sorted(machine.store().entries(), key=lambda one: one.name)]


def test_each_piece_is_opened_once_and_all_copies_are_fetched(machine: Machine) -> None:
    copies = [machine.send(artifact(1, DATA)), machine.send(artifact(2, DATA[HALF:]))]
    old = send_format_1(machine, artifact(3, DATA[: 2 * PIECE]))
    found = _opened(machine)
    pieces = {one for copy in (*copies, old) for one in copy.document.objects}
    assert found == OpenedPieces(
        machine.name, 3, len(pieces), sum(one.size for one in pieces), (), 0, found.skipped
    )
    assert (found.exit, found.skipped) == (Exit.DONE, ())
    assert _states(machine) == ["fetched"] * 3
    assert set(machine.store().records.read_back()) >= named(*copies)


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-1], lambda _: None])
def test_a_piece_that_is_changed_shortened_or_gone_damages_the_copies_that_name_it(
    machine: Machine, change: Callable[[bytes], bytes | None]
) -> None:
    whole, half = machine.send(artifact(1, DATA)), machine.send(artifact(2, DATA[HALF:]))
    name = min(named(whole) - named(half))
    damage(machine, name, change)
    found = _opened(machine)
    assert (found.damaged, found.exit) == (1, Exit.DAMAGED)
    assert name in found.faults[0]
    assert _states(machine) == ["damaged", "fetched"]
    [said] = machine.store().entries()[-1].evidence
    assert name in said.reasons[0]
    again = _opened(machine)
    assert (again.copies, again.exit) == (1, Exit.DONE)
    assert again.skipped == ("1 copy that is known to be damaged",)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda data, _: encrypt(data, (PrivateKey.new().recipient,)), "is encrypted to other keys"),
        (lambda data, to: encrypt(flipped(data), to), "does not match its name"),
        (lambda data, to: encrypt(data[:-1], to), "bytes instead of"),
        (lambda data, _: data[:-1] + b"..............." * 14, "is not a file of age"),
    ],
    ids=["for somebody else", "a bit that flipped before", "shorter", "not encrypted"],
)
def test_what_no_digest_of_the_object_shows_is_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, wrong: Any, words: str
) -> None:
    """The signed manifest has size and SHA-256 of what was sent, so a read back finds nothing."""
    good = machine.send(artifact(1, DATA[:HALF]))

    def poisoned(self: Encrypter, data: bytes) -> bytes:
        return wrong(data, self.recipients)  # type: ignore[no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(Encrypter, "piece", poisoned)
        if "instead" in words:  # a manifest refuses a size that cannot be
            patched.setattr(live_pieces, "_lengths", _lengthened)
        bad = machine.send(artifact(2, DATA[HALF:] + bytes(PIECE)))
        assert machine.fetch_back(bad).state == "fetched"
        found = _opened(machine)
    assert found.damaged == len(named(bad) - named(good))
    assert all(words in one for one in found.faults)
    assert _states(machine) == ["fetched", "damaged"]


def _lengthened(copy: Any) -> Any:
    return ((one, one.plain) for one in copy.document.pieces)


def test_a_manifest_that_gives_a_piece_another_plaintext_is_found(machine: Machine) -> None:
    """What a thief with the keys of the machine does, so that later copies share garbage."""
    good = machine.send(artifact(1, DATA))
    victim = good.document.pieces[0]
    garbage = encrypt(bytes(victim.plain), (machine.recovery.recipient,))
    memory(machine).contents[victim.name][-1] = replace(
        memory(machine).contents[victim.name][-1], data=garbage
    )

    def check(piece: Piece) -> None:
        opening = live_pieces._Opening(machine.store(key=True), {piece: (good, piece.plain)})
        opening.check(piece)

    poisoned = replace(victim, size=len(garbage), sha256=hashlib.sha256(garbage).hexdigest())
    with pytest.raises(RefnetError, match="does not match its name") as found:
        check(poisoned)
    assert found.value.code is Exit.DAMAGED


def test_pieces_that_came_encrypted_from_another_store_are_opened(machine: Machine, tmp_path: Path) -> None:
    copies = [send_format_1(machine, artifact(1, DATA[: 2 * PIECE])), machine.send(artifact(2, DATA[HALF:]))]
    away = Machine(machine.home, MemoryBucket(), machine.recovery, name="away")
    encrypter = Encrypter((machine.recovery.recipient,), machine.keys)
    for one in copies:
        Sender(away.store(), encrypter, away.now).send_copy(machine.store(), one, silent)
    found = _opened(away)
    assert (found.copies, found.faults, found.skipped) == (2, (), ())


def test_copies_for_an_older_key_are_not_opened_and_that_is_said(machine: Machine) -> None:
    machine.send(artifact(1, DATA[:HALF]))
    machine.recovery = PrivateKey.new()
    new = machine.send(artifact(2, DATA[HALF:]))
    found = _opened(machine)
    assert (found.copies, found.pieces, found.exit) == (1, len(named(new)), Exit.DONE)
    assert found.skipped[0].startswith("1 manifest that this recovery key does not open, such as ")


def test_without_the_catalog_key_the_keyed_hash_is_not_compared_and_that_is_said(
    machine: Machine, tmp_path: Path
) -> None:
    copy = machine.send(artifact(1, DATA))
    signer = machine.keys.signer().fingerprint
    other = Machine(tmp_path / "other", machine.bucket, machine.recovery, trusted=(signer,))
    found = _opened(other)
    assert (found.pieces, found.faults) == (len(named(copy)), ())
    assert found.skipped == (
        f"the keyed hash of {found.pieces} pieces, whose key or cuts this machine does not know",
    )


def test_a_run_that_is_interrupted_continues(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = machine.send(artifact(1, DATA))
    monkeypatch.setattr(live_pieces, "_AT_A_TIME", 0.0)
    reads, fetch = list[str](), live_pieces.fetch

    def failing(bucket: Any, piece: Piece, what: str) -> bytes:
        if len(reads) == 11:
            raise BucketError(BucketFailure.UNREACHABLE, "the line is down", "")
        reads.append(piece.name)
        return fetch(bucket, piece, what)

    monkeypatch.setattr(live_pieces, "fetch", failing)
    with pytest.raises(BucketError, match="line is down"):
        _opened(machine)
    assert _states(machine) == ["sent"]
    first = {*reads}
    reads.clear()
    monkeypatch.setattr(live_pieces, "fetch", lambda *given: reads.append(given[1].name) or fetch(*given))
    found = _opened(machine)
    assert (found.pieces, found.faults) == (len(named(copy)), ())
    assert len(first & {*reads}) <= 3 + 3
    assert {*reads} | first == named(copy)
    reads.clear()
    _opened(machine)
    assert {*reads} == named(copy), "the last one ended, so this is a new one"


def test_a_copy_that_is_deleted_meanwhile_is_no_fault(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = machine.send(artifact(1, DATA[:HALF])), machine.send(artifact(2, DATA[HALF:]))
    compared = live_pieces.compared

    def deleting(*given: Any) -> Any:
        delete(machine.store(), first)
        return compared(*given)

    monkeypatch.setattr(live_pieces, "compared", deleting)
    found = _opened(machine)
    assert (found.damaged, found.exit) == (0, Exit.DONE)
    assert _states(machine) == ["fetched"]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 99)])
def test_pieces_whose_cuts_are_not_known_are_opened_and_not_compared_with_their_names(
    machine: Machine, change: Callable[[Path], object]
) -> None:
    copy = machine.send(artifact(1, DATA))
    change(machine.store().home / "cuts")
    found = _opened(machine)
    assert (found.pieces, found.exit) == (len(named(copy)), Exit.DONE)
    assert "whose key or cuts this machine does not know" in found.skipped[0]


def test_pieces_whose_blocks_were_hashed_by_an_earlier_version_are_no_fault(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(Cutting, "block_hash", Cutting.hash)
        machine.send(artifact(1, DATA))
    found = _opened(machine)
    assert (found.damaged, found.skipped, found.exit) == (0, (), Exit.DONE)


def test_the_cuts_of_pieces_are_kept_for_all_copies(machine: Machine) -> None:
    copies = [machine.send(artifact(1, DATA[:HALF])), machine.send(artifact(2, DATA[HALF:]))]
    cuts = PieceCuts.of(machine.store().home).read()
    for copy in copies:
        for piece in copy.document.pieces:
            name = SharedName.read(piece.name)
            assert name
            assert sum(cuts[name.hash]) == piece.plain


def test_cuts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_blocks, "_MOST_BYTES", 1_000)
    cuts = PieceCuts(tmp_path / "cuts")
    for number in range(100):
        cuts.add({f"{number:032x}": (number, 7)})
    assert cuts.path.stat().st_size <= 1_000
    found = cuts.read()
    assert [*found][-1] == f"{99:032x}"
    assert [*found[f"{99:032x}"]] == [99, 7]
