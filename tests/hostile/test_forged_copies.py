"""What a stolen signing key, or a file planted in the home of a remote store, can do to the copies that are there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.remote_store import Machine, artifact, delete
from xxhash import xxh3_128_hexdigest

from refnet.catalog.remote import MOST_COUNTER, Copy, Piece, PieceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.remote_records import SendingJournal, Sent
from refnet.store.sending import Encrypter


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def _forged(machine: Machine, of: Copy, by: Machine | None = None, **changes: Any) -> tuple[str, bytes]:
    """Sign the manifest of `of` with `changes`; return the name of its object, and the object."""
    thief = by or machine
    document = replace(of.document, signer=thief.keys.signer().line, **changes)
    encrypter = Encrypter((machine.recovery.recipient,), thief.keys)
    return document.object, encrypter.manifest(document.to_line())[1]


def _older(of: Copy) -> dict[str, Any]:
    """Another artifact in a manifest with the id of `of`."""
    return {"manifest": artifact(0, b"evil").manifest, "sent": of.document.sent - timedelta(days=9)}


@pytest.mark.parametrize("own_key", [True, False], ids=["this machine's key", "another key"])
def test_a_manifest_with_the_id_of_another_copy_gets_none_of_its_evidence(
    machine: Machine, tmp_path: Path, own_key: bool
) -> None:
    good = machine.fetch_back(machine.send(artifact(1, b"good")))
    thief = None if own_key else Machine(tmp_path / "thief", machine.bucket, machine.recovery)
    if thief:  # whose manifests the catalog key opens too
        thief.keys.catalog_file.write_bytes(machine.keys.catalog_file.read_bytes())
    name, data = _forged(machine, good, thief, **_older(good))
    machine.bucket.put(name, data)

    store = machine.store(any_signer=not own_key)

    assert {one.object: one.state for one in store.entries()} == {good.object: "fetched", name: "sent"}
    assert "two manifests are of one copy" in " ".join(one.why for one in store.contents().gaps)


def test_a_copy_keeps_its_pieces_when_a_manifest_claiming_them_is_deleted(machine: Machine) -> None:
    good = machine.send(artifact(1, b"good"))
    name, data = _forged(machine, good, **_older(good))
    machine.bucket.put(name, data)
    store = machine.store(key=True)

    delete(store, next(one for one in store.entries() if one.object == name))

    (kept,) = store.entries()
    with store.artifact(kept).open() as reader:
        assert reader.read() == b"good"
    delete(store, kept)
    assert not [*machine.bucket.listed("data/")]


@pytest.mark.parametrize("place", ["store", "head"])
def test_a_counter_that_leaves_no_next_one_is_an_error_of_the_copy(machine: Machine, place: str) -> None:
    good = machine.send(artifact(1, b"good"))
    if place == "head":
        machine.store().records.keep_head(replace(machine.store().records.head(), counter=MOST_COUNTER))
    else:
        last = {"counter": MOST_COUNTER, "present": ((1, MOST_COUNTER),)}
        name, data = _forged(machine, good, **(_older(good) | last))
        machine.bucket.put(name, data)

    with pytest.raises(RefnetError, match=r"no valid manifest: .*counter") as caught:
        machine.send(artifact(2, b"next"))
    assert caught.value.code is Exit.DAMAGED


def test_a_planted_manifest_is_not_published_and_is_not_the_head(machine: Machine, tmp_path: Path) -> None:
    good = machine.send(artifact(1, b"good"))
    thief = Machine(tmp_path / "thief", recovery=machine.recovery)
    thief.keys.catalog_file.write_bytes(machine.keys.catalog_file.read_bytes())
    name, data = _forged(machine, good, thief, **_older(good))
    planted = machine.home / "remote" / "cloud" / "sending" / "x.sealed"
    planted.write_bytes(name.encode() + b"\n" + data)
    before = machine.store().records.head()

    machine.send(artifact(1, b"good"))

    assert machine.store().records.head() == before
    assert [one.name for one in machine.bucket.listed("manifests/")] == [good.object]


def test_a_planted_journal_with_an_impossible_piece_is_given_up(machine: Machine) -> None:
    wanted, large = artifact(1, b"good"), bytes(17 << 20)
    encrypter = Encrypter((machine.recovery.recipient,), machine.keys)
    assert wanted.manifest
    journal = SendingJournal.open(machine.home / "remote/cloud/sending", wanted.manifest, encrypter.digest)
    piece = Piece(PieceName(journal.id, 0).named("0" * 16), len(large), hashlib.sha256(large).hexdigest())
    journal.add(Sent(piece, xxh3_128_hexdigest(b"good")))
    machine.bucket.put(piece.name, large)

    with pytest.raises(RefnetError, match="no valid manifest"):
        machine.send(wanted)

    copy = machine.send(wanted)
    assert machine.fetch_back(copy).state == "fetched"


def test_pieces_that_an_unreadable_manifest_may_name_are_no_leftovers(
    machine: Machine, tmp_path: Path
) -> None:
    """A stolen key signs a manifest with the id of another machine's copy, which this machine cannot read."""
    other = Machine(tmp_path / "other", machine.bucket)
    theirs, ours = other.send(artifact(1, b"theirs")), machine.send(artifact(2, b"ours"))
    pieces = tuple(
        Piece(PieceName(theirs.id, 0).named("0" * 16), one.size, one.sha256) for one in ours.document.pieces
    )
    name, data = _forged(
        machine, ours, id=theirs.id, pieces=pieces, sent=ours.document.sent + timedelta(days=1)
    )
    machine.bucket.put(name, data)

    assert theirs.id in {one.id for one in machine.store().entries()}
    assert machine.store().leftovers() == ()
