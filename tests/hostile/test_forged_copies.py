"""What a stolen signing key, or a file planted in the home of a remote store, can do to the copies that are there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import Machine, artifact, delete, objects

from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import MOST_COUNTER, Copy, Piece
from refnet.core.errors import Exit, RefnetError
from refnet.store.encryption import encrypt
from refnet.store.remote_records import SendingJournal
from refnet.store.sending_pieces import Encrypter


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
    assert objects(machine.bucket) == []


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
    assert [name for name in objects(machine.bucket) if "manifests/" in name] == [good.object]


def test_a_planted_journal_with_an_impossible_piece_is_not_used(machine: Machine) -> None:
    wanted, large = artifact(1, b"good"), bytes(17 << 20)
    encrypter = Encrypter((machine.recovery.recipient,), machine.keys)
    assert wanted.manifest
    journal = SendingJournal.open(machine.home / "remote/cloud/sending", wanted.manifest, encrypter.digest)
    named = SharedName(encrypter.key, encrypter.cutting.hash(b"good").hex())
    digest = hashlib.sha256(large).hexdigest()
    piece = Piece(named.named("0" * 16), len(large), digest, plain=len(b"good"))
    journal.add(piece)
    machine.bucket.put(piece.name, large)

    copy = machine.send(wanted)

    assert piece.name not in {one.name for one in copy.document.pieces}
    assert machine.fetch_back(copy).state == "fetched"


def _aged(machine: Machine) -> None:
    """Let every object be nine days old."""
    bucket = machine.bucket
    assert isinstance(bucket, MemoryBucket)
    bucket.contents = {
        name: [replace(one, created=one.created - timedelta(days=9)) for one in kept]
        for name, kept in bucket.contents.items()
    }


def test_pieces_of_another_machine_that_a_forged_manifest_names_are_not_deleted(
    machine: Machine, tmp_path: Path
) -> None:
    """A stolen key signs a manifest in the folder of another machine, whose manifests this machine cannot read."""
    other = Machine(tmp_path / "other", machine.bucket)
    theirs, ours = other.send(artifact(1, b"theirs")), machine.send(artifact(2, b"ours!!"))
    taken = {"key": theirs.document.key, "pieces": theirs.document.pieces}
    name, data = _forged(machine, ours, sent=ours.document.sent + timedelta(days=1), **taken)
    machine.bucket.put(name, data)
    _aged(machine)
    [forged] = (one for one in machine.store(key=True).entries() if one.object == name)
    assert machine.store().leftovers() == ()

    with pytest.raises(RefnetError) as caught:
        delete(machine.store(key=True), forged)

    assert caught.value.code is Exit.UNVERIFIED
    assert theirs.object in caught.value.message
    assert other.fetch_back(theirs).state == "fetched"
    assert machine.fetch_back(ours).state == "fetched"


def test_pieces_that_an_unreadable_manifest_may_name_are_no_leftovers(machine: Machine) -> None:
    """A copy is gone, but a manifest below this machine's key that nothing opens may name its pieces."""
    ours, kept = machine.send(artifact(1, b"ours")), machine.send(artifact(2, b"kept"))
    machine.bucket.delete(ours.object)
    bogus = f"{ours.document.key}/manifests/20261201T000000Z_database_{'ab' * 16}.age"
    machine.bucket.put(bogus, b"bogus")
    _aged(machine)

    assert machine.store().leftovers() == ()

    machine.bucket.delete(bogus)
    assert [one.name for one in machine.store().leftovers()] == [one.name for one in ours.document.pieces]
    assert machine.fetch_back(kept).state == "fetched"


def _planted(machine: Machine, of: Copy, data: bytes) -> Piece:
    """An object with `data` under the hash of the first piece of a copy."""
    piece = of.document.pieces[0]
    named = SharedName.read(piece.name)
    assert named
    planted = replace(
        piece, name=named.named("f" * 16), size=len(data), sha256=hashlib.sha256(data).hexdigest(), version=""
    )
    machine.bucket.put(planted.name, data)
    return planted


def test_a_piece_that_somebody_planted_under_the_hash_of_a_lost_one_is_not_shared(machine: Machine) -> None:
    good = machine.send(artifact(1, b"good"))
    lost = good.document.pieces[0]
    planted = _planted(machine, good, machine.bucket.get(lost.name, lost.size))
    machine.bucket.delete(lost.name)

    copy = machine.send(artifact(2, b"good"))

    assert planted.name not in {one.name for one in copy.document.pieces}
    assert machine.fetch_back(copy).state == "fetched"


def test_what_a_stolen_signing_key_poisons_is_found_with_the_recovery_key_and_sent_again(
    machine: Machine,
) -> None:
    """A forged manifest says that other bytes are a piece of the next copy: it is read back as it was sent."""
    good = machine.send(artifact(1, b"good"))
    garbage = encrypt(b"evil", (machine.recovery.recipient,))
    planted = _planted(machine, good, garbage)
    name, data = _forged(machine, good, pieces=(planted,), **_older(good) | {"manifest": good.manifest})
    machine.bucket.put(name, data)
    poisoned = machine.fetch_back(machine.send(artifact(2, b"good")))
    assert poisoned.state == "fetched"
    with machine.store(key=True).artifact(poisoned).open() as reader:
        read = reader.read()
    if read != b"good":  # the sum of the artifact tells, as in a drill
        failed = Evidence(machine.now(), Level.INTACT, Outcome.FAILED, 0.1, reasons=("other bytes",))
        machine.store().record(poisoned, failed)

    copy = machine.fetch_back(machine.send(artifact(3, b"good")))

    assert copy.state == "fetched"
    with machine.store(key=True).artifact(copy).open() as reader:
        assert reader.read() == b"good"


def test_a_piece_of_a_forged_manifest_is_not_read_beyond_its_size(machine: Machine) -> None:
    good = machine.send(artifact(1, b"good"))
    planted = _planted(machine, good, encrypt(b"much more", (machine.recovery.recipient,)))
    name, data = _forged(machine, good, pieces=(planted,), **_older(good) | {"manifest": good.manifest})
    machine.bucket.put(name, data)
    [forged] = (one for one in machine.store(key=True).entries() if one.object == name)
    with pytest.raises(RefnetError) as caught, machine.store(key=True).artifact(forged).open() as reader:
        reader.read()
    assert caught.value.code is Exit.DAMAGED
